"""What the short way (`short_way.py`) has to know of each route: which requests are usual, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from millstream.errors import InvalidArgumentError, OutOfRangeError
from millstream_gateway.guard import Guard
from millstream_gateway.routers.ingest import JSON_METRICS, REMOTE_WRITE
from millstream_gateway.schemas.push import PushOutcome

#: Larger bodies are few, and cost more than the way that they take.
_BYTES_MAX: Final = 1 << 20


class Route:
    """One of the routes whose writes may take the short way."""

    path: str

    def __init__(self, guard: Guard, bytes_max: int) -> None:
        self.guard = guard
        self.bytes_max = min(bytes_max, _BYTES_MAX)

    def form(self, said: Mapping[bytes, bytes]) -> str | None:
        """The engine's name of what comes with these headers, when they are the usual ones."""
        raise NotImplementedError

    def answer(self, form: str, outcome: PushOutcome) -> Response:
        """What the sender is told."""
        raise NotImplementedError

    def refusal(self, form: str, error: BaseException) -> Response | None:
        """The answer to what was not understood, where the route has one of its own."""
        return None


class JsonRoute(Route):
    """`POST /metrics`."""

    path = JSON_METRICS.path
    _MEDIA: Final = frozenset({b"application/json", b"application/json; charset=utf-8", b""})

    def form(self, said: Mapping[bytes, bytes]) -> str | None:
        media = said.get(b"content-type", b"")
        is_plain = len(said) == (b"content-type" in said)
        return "json" if is_plain and media in self._MEDIA else None

    def answer(self, form: str, outcome: PushOutcome) -> Response:
        return JSON_METRICS.answer_of(outcome)


class RemoteWriteRoute(Route):
    """`POST /api/v1/write`, as Prometheus and its like send."""

    path = REMOTE_WRITE.path
    _USUAL: Final = {
        (b"application/x-protobuf", b"snappy", b"0.1.0"): "remote_write",
        (
            b"application/x-protobuf;proto=io.prometheus.write.v2.Request",
            b"snappy",
            b"2.0.0",
        ): "remote_write_2",
    }

    def form(self, said: Mapping[bytes, bytes]) -> str | None:
        return self._USUAL.get(
            (
                said.get(b"content-type", b""),
                said.get(b"content-encoding", b""),
                said.get(b"x-prometheus-remote-write-version", b""),
            )
        )

    def answer(self, form: str, outcome: PushOutcome) -> Response:
        return REMOTE_WRITE.answer_of(form, outcome)

    def refusal(self, form: str, error: BaseException) -> Response | None:
        if isinstance(error, (InvalidArgumentError, OutOfRangeError)):
            return REMOTE_WRITE.refusal_of(form, error)
        return None
