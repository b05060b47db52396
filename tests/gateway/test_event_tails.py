"""Subscriptions of the gateway: none is left behind by somebody who stops waiting for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from millstream_gateway.services.event_tails import EventTails, Tail
from millstream_gateway.services.pool import BoundedPool

SOON = 30.0


class Subscription:
    token = 1

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.closed_times = 0

    def close(self) -> None:
        self.closed_times += 1
        self.closed.set()


@pytest.fixture
def store() -> Iterator[Any]:
    descriptor = os.eventfd(0)
    notifier = SimpleNamespace(fileno=lambda: descriptor, take=list)
    yield SimpleNamespace(make_notifier=lambda: notifier)
    os.close(descriptor)


async def test_who_is_cancelled_while_a_subscription_is_made_leaves_none(store: Any) -> None:
    pool = BoundedPool("reads", threads=1, queue_max=1)
    tails = EventTails(store, pool)
    made, begun, go_on = Subscription(), threading.Event(), threading.Event()

    def subscribe(_: Any) -> Any:
        begun.set()
        go_on.wait(SOON)
        return made

    opening: asyncio.Task[Tail[Any]] = asyncio.create_task(tails.open(subscribe))
    assert await asyncio.to_thread(begun.wait, SOON)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not made.closed.is_set()
    go_on.set()
    assert await asyncio.to_thread(made.closed.wait, SOON)
    assert (made.closed_times, tails.count) == (1, 0)
    await asyncio.to_thread(pool.close)
    tails.stop()


async def test_who_is_cancelled_just_when_a_subscription_was_made_leaves_none(store: Any) -> None:
    class Pool:
        async def run(self, work: Callable[[], Any]) -> Any:
            result = work()
            opening.cancel()
            # What has come already is lost to who is cancelled before it goes on.
            await asyncio.sleep(0)
            return result

    pool: Any = Pool()
    tails = EventTails(store, pool)
    made: Any = Subscription()
    opening: asyncio.Task[Tail[Any]] = asyncio.create_task(tails.open(lambda _: made))
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await asyncio.to_thread(made.closed.wait, SOON)
    assert (made.closed_times, tails.count) == (1, 0)
    tails.stop()


async def test_who_waits_has_a_subscription_that_stays_open(store: Any) -> None:
    pool = BoundedPool("reads", threads=1, queue_max=1)
    tails = EventTails(store, pool)
    made: Any = Subscription()
    tail = await tails.open(lambda _: made)
    assert (made.closed_times, tails.count) == (0, 1)
    tail.close()
    assert (made.closed_times, tails.count) == (1, 0)
    await asyncio.to_thread(pool.close)
    tails.stop()
