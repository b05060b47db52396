"""What schemathesis has to be told of bodies that are not JSON. Loaded by its command line."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-protobuf", "application/openmetrics-text")
def as_bytes(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """Whatever comes, as bytes; that it is nothing of the kind is the point."""
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "replace")
