"""Writes on their way to the backend: so many calls at a time, each for a group of them.

A small write costs less than the way to a worker thread and back. So those that arrive while others
are on that way wait, and then travel together: one hop to a thread, and in the engine one wait, for
all of them. Alone, a write leaves at once.

Where the backend has a lane, groups go by that, whose threads do not run Python: none of them takes
the interpreter from the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Protocol

from millstream.errors import MillstreamError
from millstream_gateway.backends.protocol import Backend, PushLane
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.services.pool import BoundedPool


class Pending(Protocol):
    """A write on its way. One of the last three is called, once, and raises nothing."""

    tenant: TenantId
    write: WriteBody

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it; what nobody wants is not stored."""

    def succeed(self, outcome: PushOutcome) -> None: ...

    def fail(self, error: Exception) -> None: ...

    def drop(self) -> None:
        """The server ends."""


class _Awaited:
    """A write that a task waits for."""

    __slots__ = ("future", "tenant", "write")

    def __init__(self, tenant: TenantId, write: WriteBody) -> None:
        self.tenant = tenant
        self.write = write
        self.future: asyncio.Future[PushOutcome] = asyncio.get_running_loop().create_future()

    @property
    def is_wanted(self) -> bool:
        return not self.future.done()

    def succeed(self, outcome: PushOutcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def drop(self) -> None:
        self.future.cancel()


class PushQueue:
    """``calls_max`` calls at a time, each with at most ``group_max`` writes.

    At most as many writes wait as the pool takes calls; one more is refused at once.

    Threads  Event loop only.
    """

    def __init__(
        self, backend: Backend, pool: BoundedPool, *, calls_max: int, group_max: int
    ) -> None:
        self._backend = backend
        self._pool = pool
        self._calls_max = calls_max
        self._group_max = group_max
        self._waiting: deque[Pending] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._lane: PushLane | None = None
        self._has_lane: bool | None = None
        # By the number that the lane gave them.
        self._groups: dict[int, list[Pending]] = {}
        self._woken = False

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < self._pool.capacity

    def check_room(self) -> None:
        """`OverloadedError` when one write more would be refused now."""
        if not self.has_room:
            raise self._pool.refuse()

    async def push(self, tenant: TenantId, write: WriteBody) -> PushOutcome:
        """Cancelling this drops the write when it has not left yet."""
        self.check_room()
        awaited = _Awaited(tenant, write)
        self.begin(awaited)
        return await awaited.future

    def begin(self, pending: Pending) -> None:
        """As `push`, when there is room."""
        self._waiting.append(pending)
        if not self._woken:
            self._woken = True
            # After the other requests that this turn of the loop brings.
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._woken = False
        while self._waiting and len(self._calls) + len(self._groups) < self._calls_max:
            group = list(islice(self._waiting, self._group_max))
            for _ in group:
                self._waiting.popleft()
            # Whoever stopped waiting wants nothing stored.
            group = [one for one in group if one.is_wanted]
            if group and not self._went_by_lane(group):
                call = asyncio.get_running_loop().create_task(self._call(group))
                self._calls.add(call)
                call.add_done_callback(self._sent)

    def _went_by_lane(self, group: list[Pending]) -> bool:
        if any(one.tenant.scopes for one in group):
            return False
        try:
            lane = self._open_lane()
            if lane is None:
                return False
            number = lane.submit([(one.tenant, one.write) for one in group])
        except MillstreamError as error:
            for one in group:
                one.fail(error)
        else:
            self._groups[number] = group
        return True

    def _open_lane(self) -> PushLane | None:
        if self._has_lane is None:
            self._lane = self._backend.push_lane(self._calls_max)
            self._has_lane = self._lane is not None
            if self._lane is not None:
                asyncio.get_running_loop().add_reader(
                    self._lane.fileno(), self._collect, self._lane
                )
        return self._lane

    def _collect(self, lane: PushLane) -> None:
        for number, outcomes in lane.collect():
            _tell(self._groups.pop(number), outcomes)
        self._send()

    def stop(self) -> None:
        """Wait for what is on its way by the lane, and take no more by it."""
        lane, self._lane = self._lane, None
        if lane is not None:
            asyncio.get_running_loop().remove_reader(lane.fileno())
            lane.close()
            self._collect(lane)

    def _sent(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    async def _call(self, group: list[Pending]) -> None:
        writes = [(one.tenant, one.write) for one in group]
        try:
            outcomes = await self._pool.run(lambda: self._backend.push_all(writes))
        except asyncio.CancelledError:
            for one in group:
                one.drop()
            raise
        except Exception as error:
            for one in group:
                one.fail(error)
            return
        _tell(group, outcomes)


def _tell(group: list[Pending], outcomes: list[PushOutcome | MillstreamError]) -> None:
    for one, outcome in zip(group, outcomes, strict=True):
        if isinstance(outcome, MillstreamError):
            one.fail(outcome)
        else:
            one.succeed(outcome)
