"""Which backend the settings ask for."""

from __future__ import annotations

from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.settings import Settings


def make_backend(settings: Settings) -> Backend:
    """A node when one is named, otherwise an engine in this process; not open yet."""
    if settings.nodes.addresses:
        # Imported here: an embedded engine needs no gRPC.
        from millstream_gateway.backends.nodes import NodesBackend

        return NodesBackend(settings.nodes)
    return EmbeddedBackend(settings.storage)
