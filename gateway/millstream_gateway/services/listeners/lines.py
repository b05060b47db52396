"""Lines over TCP and UDP, for protocols that have nothing else: Graphite and StatsD."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, cast

import structlog

from millstream_gateway.backends.wire import Taken
from millstream_gateway.services.listeners.intake import Intake
from millstream_gateway.services.listeners.sockets import Pair
from millstream_gateway.services.own_metrics import ListenerMetrics

log = structlog.get_logger(__name__)

_DATAGRAM_BYTES_MAX: Final = 65_535
# Between two of them other sockets have their turn.
_DATAGRAMS_AT_ONCE: Final = 256
# What a kernel may hold when the listener stops.
_DATAGRAMS_LEFT_MAX: Final = 100_000


class LineListener:
    """Accepts connections and datagrams and hands their whole lines on in batches.

    A connection that finds no room is not read until there is some, so its sender waits. A datagram
    that finds none is dropped and counted.

    Threads  Event loop only.
    """

    def __init__(
        self,
        name: str,
        sockets: Pair,
        consume: Callable[[bytes], Awaitable[None]],
        metrics: ListenerMetrics,
        *,
        buffer_bytes: int,
        connections_max: int,
        line_bytes_max: int,
    ) -> None:
        self._name = name
        self._sockets = sockets
        self._metrics = metrics
        self.intake = Intake(consume, buffer_bytes)
        self.connections_max = connections_max
        self.line_bytes_max = line_bytes_max
        self.connections: set[LineConnection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self.intake.start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: LineConnection(self, self._metrics), sock=self._sockets.stream
        )
        loop.add_reader(self._sockets.datagram, self._read_datagrams)

    async def stop(self, seconds: float) -> None:
        """Take nothing more than what has come already, and hand that on within this time."""
        if self._server is None:
            return
        self._server.close()
        asyncio.get_running_loop().remove_reader(self._sockets.datagram)
        left = _DATAGRAMS_LEFT_MAX
        while left > 0 and self._read_datagrams():
            left -= _DATAGRAMS_AT_ONCE
        for connection in tuple(self.connections):
            connection.close()
        self._sockets.close()
        lost = await self.intake.close(seconds)
        if lost:
            log.error("lines were lost at the stop", listener=self._name, bytes=lost)

    def note_refused(self, taken: Taken) -> None:
        """Count the lines of a batch that broke a rule, and say why the first did."""
        if taken.refused:
            self._metrics.refused.inc(taken.refused)
            log.debug("lines were refused", listener=self._name, first=taken.errors[0].reason)

    def _read_datagrams(self) -> bool:
        """Whether there may be more."""
        datagrams: list[bytes] = []
        more = True
        while more and len(datagrams) < _DATAGRAMS_AT_ONCE:
            try:
                datagrams.append(self._sockets.datagram.recv(_DATAGRAM_BYTES_MAX))
            except (BlockingIOError, InterruptedError):
                more = False
            except OSError:
                # An answer of the network to something sent, which this socket never does.
                more = False
        if datagrams:
            self._metrics.datagrams.inc(len(datagrams))
            datagrams.append(b"")
            if not self.intake.offer(b"\n".join(datagrams)):
                self._metrics.dropped_datagrams.inc(len(datagrams) - 1)
        return more


class LineConnection(asyncio.Protocol):
    """One TCP connection: cuts what comes into whole lines."""

    def __init__(self, listener: LineListener, metrics: ListenerMetrics) -> None:
        self._listener = listener
        self._metrics = metrics
        self._transport: asyncio.Transport | None = None
        # The beginning of a line whose end has not come.
        self._rest = b""
        # Whole lines that found no room.
        self._held = b""
        # Within a line that is too long, up to its end.
        self._skipping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._listener.connections) >= self._listener.connections_max:
            self._metrics.refused_connections.inc()
            self._transport.abort()
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            # A peer that vanished is noticed some day.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._listener.connections.add(self)
        self._metrics.connections.inc()

    def connection_lost(self, _error: Exception | None) -> None:
        if self not in self._listener.connections:
            return
        self._listener.connections.discard(self)
        self._metrics.connections.dec()
        # A line that was cut off might say another number than it was to say.
        if self._rest.strip():
            self._metrics.refused.inc()
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        if self._skipping:
            begin = data.find(b"\n") + 1
            if begin == 0:
                return
            self._skipping = False
            data, end = data[begin:], end - begin
        lines, self._rest = (
            (self._rest + data[:end], data[end:]) if end else (b"", self._rest + data)
        )
        if len(self._rest) > self._listener.line_bytes_max:
            self._rest = b""
            self._skipping = True
            self._metrics.refused.inc()
        if lines and not self._listener.intake.offer(lines):
            self._held = lines
            if self._transport is not None:
                self._transport.pause_reading()
            self._listener.intake.when_room(self._offer_held)

    def close(self) -> None:
        """Close from this side; whole lines that are here go on."""
        if self._held and self._listener.intake.offer(self._held):
            self._held = b""
        if self._transport is not None:
            self._transport.close()

    def _offer_held(self) -> None:
        if not self._held:
            return
        if not self._listener.intake.offer(self._held):
            self._listener.intake.when_room(self._offer_held)
            return
        self._held = b""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
