"""Subscriptions of this process, all told of news by one descriptor in the event loop.

So a subscription costs neither a thread nor a task while nothing happens.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from millstream_gateway.backends.events import (
    EventNotifier,
    EventStore,
    EventSubscription,
    NativeSubscription,
)
from millstream_gateway.services.pool import BoundedPool

# Many readers of one topic have news with each event; what comes in this time they get in one go. It
# grows with what serving them takes, so that there is time for others in between.
_MANY: Final = 16
_REST_SECONDS: Final = 20e-6
_REST_SECONDS_MAX: Final = 0.02
_NOTHING: Final[Callable[[], None]] = lambda: None  # noqa: E731


_S = TypeVar("_S", bound=EventSubscription | NativeSubscription)


class Tail(Generic[_S]):
    """One subscription. Whoever has it polls it, and is told when that is worth while.

    Threads  Event loop, save `subscription`, which one thread at a time may use.
    """

    __slots__ = ("_tails", "on_news", "subscription")

    def __init__(self, tails: EventTails, subscription: _S) -> None:
        self._tails = tails
        self.subscription = subscription
        self.on_news = _NOTHING

    def close(self) -> None:
        """Let go; blocks for a moment, as the store does."""
        self._tails.forget(self.subscription.token)
        self.subscription.close()


class _Opening(Generic[_S]):
    """A subscription while a thread makes it. Nobody's when it is given up: then it is closed."""

    __slots__ = ("_given_up", "_lock", "_made", "_subscribe")

    def __init__(self, subscribe: Callable[[], _S]) -> None:
        self._subscribe = subscribe
        self._lock = threading.Lock()
        self._made: _S | None = None
        self._given_up = False

    def make(self) -> _S:
        """On a thread."""
        made = self._subscribe()
        with self._lock:
            self._made = made
            given_up = self._given_up
        if given_up:
            made.close()
        return made

    def give_up(self) -> _S | None:
        """What is left to close, when it was made already."""
        with self._lock:
            self._given_up = True
            return self._made


class EventTails:
    """Threads  Event loop only."""

    def __init__(self, store: EventStore, pool: BoundedPool) -> None:
        self._store = store
        self._pool = pool
        self._notifier: EventNotifier | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tails: dict[int, Tail[Any]] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._tails)

    async def open(self, subscribe: Callable[[EventNotifier], _S]) -> Tail[_S]:
        """Begin to follow what ``subscribe`` makes, on a thread.

        Who is cancelled while it waits leaves no subscription behind.
        """
        notifier = self._listening()
        opening = _Opening(lambda: subscribe(notifier))
        try:
            subscription = await self._pool.run(opening.make)
        except asyncio.CancelledError:
            made = opening.give_up()
            if made is not None:
                # Not in the pool, which may be full.
                asyncio.get_running_loop().run_in_executor(None, made.close)
            raise
        tail = Tail(self, subscription)
        self._tails[subscription.token] = tail
        return tail

    def forget(self, token: int) -> None:
        """A tail ended."""
        self._tails.pop(token, None)

    def stop(self) -> None:
        """End everything; after this nothing is told."""
        for tail in tuple(self._tails.values()):
            tail.close()
        if self._notifier is not None and self._loop is not None:
            self._loop.remove_reader(self._notifier.fileno())
        self._notifier = None

    def _listen(self) -> None:
        if self._notifier is not None and self._loop is not None:
            self._loop.add_reader(self._notifier.fileno(), self._tell)

    def _listening(self) -> EventNotifier:
        # Not before it is needed: some backends have no events.
        if self._notifier is None:
            self._notifier = self._store.make_notifier()
            self._loop = asyncio.get_running_loop()
            self._listen()
        return self._notifier

    def _tell(self) -> None:
        if self._notifier is None or self._loop is None:
            return
        tokens = self._notifier.take()
        for token in tokens:
            tail = self._tails.get(token)
            if tail is not None:
                tail.on_news()
        if len(tokens) >= _MANY:
            self._loop.remove_reader(self._notifier.fileno())
            rest = min(len(tokens) * _REST_SECONDS, _REST_SECONDS_MAX)
            self._loop.call_later(rest, self._listen)
