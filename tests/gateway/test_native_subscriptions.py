"""Subscriptions over native frames: one that ends leaves the others of its connection alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from millstream.errors import MillstreamError, PermissionDeniedError, ResourceExhaustedError
from millstream_gateway.services.listeners.native_subscriptions import NativeSubscriptions
from millstream_gateway.services.native_events import NativeEvents

SOON = 10.0


class Subscription:
    def __init__(self, number: int) -> None:
        self.subscription = number
        self.has_more = False
        self.answers: list[bytes | Exception] = []

    def welcome(self) -> bytes:
        return b"welcome %d" % self.subscription

    def add_credit(self, count: int) -> None:
        self.answers.append(b"credit %d" % count)

    def next(self) -> bytes:
        answer = self.answers.pop(0) if self.answers else b""
        if isinstance(answer, Exception):
            raise answer
        return answer


class Tail:
    def __init__(self, number: int) -> None:
        self.subscription = Subscription(number)
        self.on_news: Callable[[], None] = lambda: None
        self.fails = False

    def close(self) -> None:
        if self.fails:
            raise RuntimeError("a tail that cannot be closed")


class Connection:
    """What of a connection the subscriptions know."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.failure: asyncio.Future[MillstreamError] = asyncio.get_running_loop().create_future()
        self.before_read: Callable[[], None] = lambda: None
        answers: Any = SimpleNamespace(ended=lambda number, _error: b"ended %d" % number)
        events: Any = SimpleNamespace(next_frame=self._next_frame)
        self.subscriptions = NativeSubscriptions(
            events, answers, self.sent.put_nowait, self._is_read, self.failure.set_result
        )

    def add(self, number: int) -> Tail:
        tail = Tail(number)
        self.subscriptions.add(tail, ("t",))  # type: ignore[arg-type]
        return tail

    async def _next_frame(self, work: Callable[[], bytes]) -> bytes:
        self.before_read()
        await asyncio.sleep(0)
        return work()

    async def _is_read(self) -> bool:
        return True

    async def hear(self) -> bytes:
        return await asyncio.wait_for(self.sent.get(), SOON)


async def test_what_is_woken_in_the_turn_that_ends_it_does_not_end_the_others() -> None:
    connection = Connection()
    broken, other = connection.add(1), connection.add(2)
    assert [await connection.hear(), await connection.hear()] == [b"welcome 1", b"welcome 2"]
    broken.subscription.answers.append(ResourceExhaustedError("too slow"))
    # Credit comes while the thread reads what will fail.
    connection.before_read = lambda: connection.subscriptions.give(1, 5)
    broken.on_news()
    assert await connection.hear() == b"ended 1"
    connection.before_read = lambda: None
    other.subscription.answers.append(b"event")
    other.on_news()
    assert await connection.hear() == b"event"
    connection.subscriptions.stop()


async def test_a_pump_that_breaks_ends_the_connection() -> None:
    connection = Connection()
    connection.add(1).fails = True
    connection.subscriptions.end(1)
    assert "error of the server" in (await asyncio.wait_for(connection.failure, SOON)).message


@pytest.mark.parametrize("sees_all", [True, False])
def test_a_pattern_is_readable_as_long_as_nothing_it_stands_for_is_hidden(sees_all: bool) -> None:
    service: Any = SimpleNamespace(check=lambda *_: None, sees_all=lambda _: sees_all)
    unused: Any = None
    events = NativeEvents(unused, service, unused, unused)
    caller: Any = SimpleNamespace(principal=SimpleNamespace(name="r"))
    events.check_readable(caller, ["orders.eu"])
    if sees_all:
        events.check_readable(caller, ["orders.*"])
    else:
        with pytest.raises(PermissionDeniedError, match="subscribe to orders"):
            events.check_readable(caller, ["orders.eu", "orders.*"])
