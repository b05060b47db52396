"""Small writes that come at the same time go to the backend as one call.

A small write costs less than the way to a worker thread and back. So those that arrive while others
are on that way wait, and then travel together: one hop to a thread, and in the engine one wait, for
all of them. Alone, a write leaves at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Final

from millstream.errors import MillstreamError
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.services.pool import BoundedPool

_CALLS_MAX: Final = 2
_GROUP_MAX: Final = 64
_Waiting = tuple[TenantId, WriteBody, asyncio.Future[PushOutcome]]


class SharedPush:
    """At most as many writes wait as the pool takes calls; one more is refused at once.

    Threads  Event loop only.
    """

    def __init__(self, backend: Backend, pool: BoundedPool) -> None:
        self._backend = backend
        self._pool = pool
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._woken = False

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < self._pool.capacity

    def check_room(self) -> None:
        """`OverloadedError` when one write more would be refused now."""
        if not self.has_room:
            raise self._pool.refuse()

    async def push(self, tenant: TenantId, write: WriteBody) -> PushOutcome:
        return await self.begin(tenant, write)

    def begin(self, tenant: TenantId, write: WriteBody) -> asyncio.Future[PushOutcome]:
        """As `push`; cancelling the future drops the write when it has not left yet."""
        self.check_room()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[PushOutcome] = loop.create_future()
        self._waiting.append((tenant, write, future))
        # After the other requests that this turn of the loop brings.
        self._wake(loop)
        return future

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._woken:
            self._woken = True
            loop.call_soon(self._send)

    def _send(self) -> None:
        self._woken = False
        while self._waiting and len(self._calls) < _CALLS_MAX:
            group = list(islice(self._waiting, _GROUP_MAX))
            for _ in group:
                self._waiting.popleft()
            # Whoever stopped waiting wants nothing stored.
            group = [one for one in group if not one[2].done()]
            if group:
                call = asyncio.get_running_loop().create_task(self._call(group))
                self._calls.add(call)
                call.add_done_callback(self._sent)

    def _sent(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    async def _call(self, group: list[_Waiting]) -> None:
        writes = [(tenant, write) for tenant, write, _ in group]
        try:
            outcomes = await self._pool.run(lambda: self._backend.push_all(writes))
        except asyncio.CancelledError:
            for _, _, future in group:
                future.cancel()
            raise
        except Exception as error:
            for _, _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, _, future), outcome in zip(group, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, MillstreamError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
