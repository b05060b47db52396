"""StatsD and DogStatsD over UDP and TCP."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

import structlog

from millstream.errors import MillstreamError
from millstream_gateway.backends.wire import StatsdAggregator
from millstream_gateway.schemas.push import WriteBody
from millstream_gateway.services.listeners.delivery import RETRYABLE, Delivery
from millstream_gateway.services.listeners.lines import LineListener
from millstream_gateway.services.listeners.sockets import Pair
from millstream_gateway.services.own_metrics import ListenerMetrics
from millstream_gateway.services.pool import BoundedPool
from millstream_gateway.settings import StatsdSettings

log = structlog.get_logger(__name__)

_LINE_BYTES_MAX: Final = 8 << 10
_LABEL_BYTES_MAX: Final = 64 << 20
# Flushes that the store could not take yet.
_WAITING_MAX: Final = 60
_WAITING_BYTES_MAX: Final = 256 << 20


class StatsdListener:
    """Threads  Event loop only; lines are aggregated in the pool."""

    name: Final = "statsd"

    def __init__(
        self,
        settings: StatsdSettings,
        sockets: Pair,
        pool: BoundedPool,
        delivery: Delivery,
        metrics: ListenerMetrics,
    ) -> None:
        self._aggregator = StatsdAggregator(
            series_max=settings.max_series,
            bytes_max=_LABEL_BYTES_MAX,
            idle_ms=settings.idle_timeout,
            gauge_deltas=settings.gauge_deltas,
            labels=settings.labels,
        )
        self._interval = settings.flush_interval / 1000
        self._pool = pool
        self._delivery = delivery
        self._metrics = metrics
        self._waiting: deque[WriteBody] = deque()
        self._waiting_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
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
        self._flushing = asyncio.create_task(self._flush_for_ever())

    async def stop(self, seconds: float) -> None:
        """Aggregate what has come, and flush it."""
        await self._lines.stop(seconds)
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait((self._flushing,))
        await self._flush()
        if self._waiting:
            log.error("flushes were lost at the stop", listener=self.name, count=len(self._waiting))

    async def _consume(self, lines: bytes) -> None:
        now_ms = time.time_ns() // 1_000_000
        taken = await self._pool.wait_and_run(lambda: self._aggregator.add(lines, now_ms))
        self._metrics.received.inc(taken.values)
        self._metrics.dropped.inc(taken.dropped)
        self._lines.note_refused(taken)

    async def _flush_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval
        while True:
            await asyncio.sleep(due - loop.time())
            await self._flush()
            # On the grid of intervals; those that a slow store has overrun are skipped.
            due = max(due + self._interval, loop.time())

    async def _flush(self) -> None:
        """Take what was aggregated, and push it after what still waits.

        A body that cannot be pushed now waits for the next flush: it says times and values, so it
        is as good then.
        """
        now_ms = time.time_ns() // 1_000_000
        body = await self._pool.wait_and_run(lambda: self._aggregator.flush(now_ms))
        self._metrics.series.set(self._aggregator.series)
        if body is not None:
            self._waiting.append(body)
            self._waiting_bytes += len(body.body)
        while len(self._waiting) > _WAITING_MAX or self._waiting_bytes > _WAITING_BYTES_MAX:
            self._waiting_bytes -= len(self._waiting.popleft().body)
            log.error("a flush was dropped: the store takes nothing", listener=self.name)
        while self._waiting:
            try:
                await self._delivery.once(self._waiting[0])
            except MillstreamError as error:
                log.warning("a flush was not stored", listener=self.name, error=error.message)
                if error.code in RETRYABLE:
                    return
            self._waiting_bytes -= len(self._waiting.popleft().body)
