"""Events that are published at the same time go to the engine as one call.

As `PushQueue` does for small writes of metrics, and in the order of coming: one call at a time, so
that what one socket publishes one after the other stays so, and whatever comes while the engine
brings a batch to the disk is the next batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from millstream.errors import InternalError, MillstreamError
from millstream_gateway.backends.events import EventStore
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.event_json import BATCH_MAX
from millstream_gateway.schemas.events import NewEvent, Placement
from millstream_gateway.services.pool import BoundedPool

_GROUP_EVENTS: Final = 4096
_GROUP_BYTES: Final = 8 << 20
_WAITING_EVENTS_MAX: Final = 100_000
Published = list[Placement | MillstreamError]
_Waiting = tuple[TenantId, Sequence[NewEvent], asyncio.Future[Published]]


class SharedPublish:
    """Threads  Event loop only."""

    def __init__(self, store: EventStore, pool: BoundedPool) -> None:
        self._store = store
        self._pool = pool
        self._waiting: deque[_Waiting] = deque()
        self._waiting_events = 0
        self._call: asyncio.Task[None] | None = None
        self._woken = False

    def check_room(self) -> None:
        """`OverloadedError` when nothing more can wait."""
        if self._waiting_events >= _WAITING_EVENTS_MAX:
            raise self._pool.refuse()

    def publish(self, tenant: TenantId, events: Sequence[NewEvent]) -> asyncio.Future[Published]:
        """What becomes of these events, in order. Cancelled before they went, they do not go."""
        self.check_room()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Published] = loop.create_future()
        self._waiting.append((tenant, events, future))
        self._waiting_events += len(events)
        if not self._woken and self._call is None:
            self._woken = True
            # After the others that this turn of the loop brings.
            loop.call_soon(self._send)
        return future

    def _send(self) -> None:
        self._woken = False
        if self._call is None and (group := self._next_group()):
            self._call = asyncio.get_running_loop().create_task(self._deliver(group))
            self._call.add_done_callback(self._sent)

    def _sent(self, _call: asyncio.Task[None]) -> None:
        self._call = None
        self._send()

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        count = size = 0
        while self._waiting and count < _GROUP_EVENTS and size < _GROUP_BYTES:
            if group and count + len(self._waiting[0][1]) > BATCH_MAX:
                break
            one = self._waiting.popleft()
            self._waiting_events -= len(one[1])
            if not one[2].done():
                group.append(one)
                count += len(one[1])
                size += sum(len(event.payload) for event in one[1])
        return group

    async def _deliver(self, group: list[_Waiting]) -> None:
        try:
            answers = await self._pool.wait_and_run(lambda: publish_group(self._store, group))
        except asyncio.CancelledError:
            for _, _, future in group:
                future.cancel()
            raise
        except Exception as error:
            for _, _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, _, future), answer in zip(group, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def publish_group(store: EventStore, group: Sequence[_Waiting]) -> list[Published]:
    """One call for each tenant that the group is of. Blocks."""
    by_tenant: dict[TenantId, list[NewEvent]] = {}
    for tenant, events, _ in group:
        by_tenant.setdefault(tenant, []).extend(events)
    answers: dict[TenantId, Published] = {}
    for tenant, events in by_tenant.items():
        try:
            answers[tenant] = store.publish(tenant, events)
        except MillstreamError as error:
            answers[tenant] = [error] * len(events)
        if len(answers[tenant]) != len(events):
            raise InternalError("the engine answered another number of events")
    taken = dict.fromkeys(by_tenant, 0)
    found = []
    for tenant, events, _ in group:
        begin = taken[tenant]
        taken[tenant] = begin + len(events)
        found.append(answers[tenant][begin : taken[tenant]])
    return found
