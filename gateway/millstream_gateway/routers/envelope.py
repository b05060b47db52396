"""Prometheus's envelope for success."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.responses import Response

from millstream_gateway.schemas.queries import QueryAnswer


def success(data: object, warnings: Sequence[str] = ()) -> Response:
    """Wrap a value."""
    return answer(QueryAnswer(orjson.dumps(data), tuple(warnings)))


def answer(result: QueryAnswer) -> Response:
    """Wrap data that the backend has encoded already; it is copied, never parsed."""
    parts = [b'{"status":"success","data":', result.data_json]
    if result.warnings:
        parts += [b',"warnings":', orjson.dumps(result.warnings)]
    if result.infos:
        parts += [b',"infos":', orjson.dumps(result.infos)]
    parts.append(b"}")
    return Response(b"".join(parts), media_type="application/json")
