"""Events that are published from the background, for programs that use asyncio."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, Self

from millstream._columns import Span, span_ms
from millstream._events import HeaderPairs, NewEvent, Published
from millstream._producer import Line, Outcome, check
from millstream.errors import FailedPreconditionError, InvalidArgumentError, MillstreamError


class Publishes(Protocol):
    """What a producer needs of a topic."""

    name: str

    async def publish_many(self, events: Any, *, strict: bool = True) -> list[Outcome]: ...


class Producer:
    """Publishes in the order of `publish`, from a task of its own; as that of `millstream.connect`.

    Close it, or leave ``async with``: a loop that ends takes the task with it.
    """

    def __init__(self, topic: Publishes, in_flight: int) -> None:
        self._topic = topic
        self._line: Line[asyncio.Future[Published]] = Line(topic.name, in_flight)
        self._changed = asyncio.Condition()
        self._is_closing = False
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._work(), name="millstream-producer")

    @property
    def in_flight(self) -> int:
        """Events that are not acknowledged yet."""
        return self._line.held

    async def publish(
        self,
        payload: Any,
        *,
        key: bytes | str | None = None,
        headers: HeaderPairs | None = None,
        timestamp: Any = None,
        id: str | None = None,  # noqa: A002 - the field's name
        partition: int | None = None,
    ) -> asyncio.Future[Published]:
        """Take one event; waits for room. The future is its acknowledgement, or its refusal.

        What is no event is refused here; the payload must not change afterwards.
        """
        event = NewEvent(payload, key, headers or {}, timestamp, id, partition)
        check(self._topic.name, event)
        future: asyncio.Future[Published] = self._loop.create_future()
        # Whoever wants to know awaits it; `flush` tells of refusals, too.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_closing or self._line.has_room)
            if self._is_closing:
                raise FailedPreconditionError("the producer is closed")
            self._line.add(event, future)
            self._changed.notify_all()
        return future

    async def flush(self, timeout: Span = "1m") -> None:  # noqa: ASYNC109 - as its twin has it
        """Wait until everything taken so far is acknowledged or refused.

        Raises the first refusal since the last call, or `UnavailableError` when the time is up.
        """
        goal = self._line.added
        try:
            async with asyncio.timeout(span_ms(timeout) / 1000), self._changed:
                await self._changed.wait_for(lambda: self._line.done >= goal)
        except TimeoutError:
            self._line.raise_refused()
            raise self._line.late() from None
        self._line.raise_refused()

    async def close(self, timeout: Span = "1m") -> None:  # noqa: ASYNC109
        """Take no more, and `flush`; what was not sent in time is given up. Again changes nothing."""
        if self._is_closing:
            return
        async with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        try:
            await self.flush(timeout)
        finally:
            self._task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _work(self) -> None:
        while True:
            async with self._changed:
                while not (batch := self._line.take()):
                    await self._changed.wait()
            outcomes = await self._send([event for event, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, MillstreamError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            async with self._changed:
                self._line.finish(outcomes)
                self._changed.notify_all()

    async def _send(self, events: list[NewEvent]) -> list[Outcome]:
        try:
            return await self._topic.publish_many(events, strict=False)
        except InvalidArgumentError as error:
            # One that cannot be written down harms no other.
            if len(events) == 1:
                return [error]
            return [(await self._send([one]))[0] for one in events]
        except MillstreamError as error:
            return [error] * len(events)
