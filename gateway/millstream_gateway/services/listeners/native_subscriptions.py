"""The subscriptions of one connection of native frames, which send as their client gives credit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from millstream.errors import (
    InternalError,
    InvalidArgumentError,
    MillstreamError,
    ResourceExhaustedError,
)
from millstream_gateway.backends.events import NativeSubscription
from millstream_gateway.backends.wire import NativeAnswers
from millstream_gateway.schemas.access import Caller
from millstream_gateway.services.event_tails import Tail
from millstream_gateway.services.native_events import NativeEvents

log = structlog.get_logger(__name__)

SUBSCRIPTIONS_MAX: Final = 100


class _Followed:
    __slots__ = ("credit", "ending", "failure", "tail", "topics", "waiting")

    def __init__(self, tail: Tail[NativeSubscription], topics: tuple[str, ...]) -> None:
        self.tail = tail
        self.topics = topics
        # Why it ends, when that is not the client's wish.
        self.failure: MillstreamError | None = None
        self.waiting = False
        # Given since the tail was last asked: that is used by one thread at a time.
        self.credit = 0
        self.ending = False

    def next(self) -> bytes:
        """On a thread."""
        credit, self.credit = self.credit, 0
        if credit:
            self.tail.subscription.add_credit(credit)
        return self.tail.subscription.next()


class NativeSubscriptions:
    """Threads  Event loop only, save that frames are made on threads of the pool."""

    def __init__(
        self,
        events: NativeEvents,
        answers: NativeAnswers,
        send: Callable[[bytes], None],
        is_read: Callable[[], Awaitable[bool]],
        fail: Callable[[MillstreamError], None],
    ) -> None:
        self._events = events
        self._answers = answers
        self._send = send
        self._is_read = is_read
        # Ends the connection: better than subscriptions that say nothing more.
        self._fail = fail
        self._followed: dict[int, _Followed] = {}
        self._ready: deque[int] = deque()
        self._something = asyncio.Event()
        self._stopping = False
        self._pump: asyncio.Task[None] | None = None

    def check_new(self, number: int) -> None:
        """Raises when the number is in use, which ends the connection.

        Whatever would be said of the second, the client would take for the end of the first.
        """
        if number in self._followed:
            raise InvalidArgumentError(f"there is a subscription {number} already")

    def check_room(self) -> None:
        """Raises when there cannot be one more."""
        if len(self._followed) >= SUBSCRIPTIONS_MAX:
            raise ResourceExhaustedError(
                f"a connection has at most {SUBSCRIPTIONS_MAX} subscriptions"
            )

    def add(self, tail: Tail[NativeSubscription], topics: tuple[str, ...]) -> None:
        """Begin to send what comes."""
        number = tail.subscription.subscription
        self._followed[number] = _Followed(tail, topics)
        tail.on_news = lambda: self._wake(number)
        self._send(tail.subscription.welcome())
        self._wake(number)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._work())

    def give(self, number: int, events: int) -> None:
        """Credit for so many more events; of a subscription that has ended it means nothing."""
        followed = self._followed.get(number)
        if followed is not None:
            followed.credit += events
            self._wake(number)

    def end(self, number: int) -> None:
        """The client wants no more of it."""
        followed = self._followed.get(number)
        if followed is not None:
            followed.ending = True
            self._wake(number)

    def check(self, caller: Caller) -> None:
        """End those whose topics the caller may not read any more."""
        for number, followed in self._followed.items():
            try:
                self._events.check_readable(caller, followed.topics)
            except MillstreamError as error:
                followed.failure = error
                followed.ending = True
                self._wake(number)

    def stop(self) -> None:
        """The connection ends."""
        self._stopping = True
        self._something.set()

    def _wake(self, number: int) -> None:
        followed = self._followed.get(number)
        if followed is None or followed.waiting:
            return
        followed.waiting = True
        self._ready.append(number)
        self._something.set()

    async def _work(self) -> None:
        try:
            while not self._stopping:
                if not self._ready:
                    self._something.clear()
                    await self._something.wait()
                    continue
                number = self._ready.popleft()
                followed = self._followed.get(number)
                if followed is None:
                    # It was woken in its last turn, by credit or by news.
                    continue
                await self._turn(number, followed)
                if not await self._is_read():
                    return
        except Exception:
            log.exception("the subscriptions of a connection of native frames broke")
            self._fail(InternalError("an error of the server; its log says more"))
        finally:
            left, self._followed = self._followed, {}
            for one in left.values():
                await asyncio.shield(asyncio.to_thread(one.tail.close))

    async def _turn(self, number: int, followed: _Followed) -> None:
        followed.waiting = False
        error = followed.failure
        if not followed.ending:
            try:
                frame = await self._events.next_frame(followed.next)
            except MillstreamError as caught:
                error = caught
            except Exception:
                log.exception("a subscription over native frames broke")
                error = InternalError("an error of the server; its log says more")
            else:
                if frame:
                    self._send(frame)
                if followed.tail.subscription.has_more or followed.credit:
                    self._wake(number)
                return
        await asyncio.to_thread(followed.tail.close)
        # Not before: one more of this number would be welcomed before this one is said to end.
        del self._followed[number]
        self._send(self._answers.ended(number, error))
