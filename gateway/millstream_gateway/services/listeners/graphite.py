"""Graphite's plaintext protocol over TCP and UDP."""

from __future__ import annotations

import time
from typing import Final

import structlog

from millstream_gateway.backends.wire import GraphiteDecoder, MappingRule
from millstream_gateway.services.listeners.delivery import Delivery
from millstream_gateway.services.listeners.lines import LineListener
from millstream_gateway.services.listeners.sockets import Pair
from millstream_gateway.services.own_metrics import ListenerMetrics
from millstream_gateway.services.pool import BoundedPool
from millstream_gateway.settings import GraphiteSettings

log = structlog.get_logger(__name__)

_LINE_BYTES_MAX: Final = 16 << 10


def make_decoder(settings: GraphiteSettings) -> GraphiteDecoder:
    """Raises `InvalidArgumentError` when the mapping makes no sense."""
    rules = [MappingRule(r.match, r.name, r.labels, r.drop) for r in settings.mapping]
    return GraphiteDecoder(rules, strict=settings.strict)


class GraphiteListener:
    """Threads  Event loop only; lines are decoded in the pool."""

    name: Final = "graphite"

    def __init__(
        self,
        settings: GraphiteSettings,
        sockets: Pair,
        pool: BoundedPool,
        delivery: Delivery,
        metrics: ListenerMetrics,
    ) -> None:
        self._decoder = make_decoder(settings)
        self._pool = pool
        self._delivery = delivery
        self._metrics = metrics
        self._lines = LineListener(
            self.name,
            sockets,
            self._consume,
            metrics,
            buffer_bytes=settings.buffer_bytes,
            connections_max=settings.connections_max,
            line_bytes_max=_LINE_BYTES_MAX,
        )

    async def start(self) -> None:
        await self._lines.start()

    async def stop(self, seconds: float) -> None:
        await self._lines.stop(seconds)

    async def _consume(self, lines: bytes) -> None:
        now_ms = time.time_ns() // 1_000_000
        body, taken = await self._pool.wait_and_run(lambda: self._decoder.decode(lines, now_ms))
        self._metrics.received.inc(taken.values)
        self._lines.note_refused(taken)
        if taken.values and not await self._delivery.until_taken(body):
            self._metrics.dropped.inc(taken.values)
