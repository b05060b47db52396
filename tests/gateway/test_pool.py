"""The pool in front of the core: how much it takes, what it gives back, and what cancelling does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from millstream_gateway.errors import OverloadedError
from millstream_gateway.services.pool import BoundedPool

DEADLINE_SECONDS = 60.0
T = TypeVar("T")


class Gate:
    """Work that begins when a thread has it and ends when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.open.wait(DEADLINE_SECONDS)
        return "done"

    async def wait_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, DEADLINE_SECONDS)


@pytest.fixture
def pool() -> Iterator[BoundedPool]:
    pool = BoundedPool("test", threads=1, queue_max=1)
    yield pool
    pool.close()


async def fill(
    pool: BoundedPool, gate: Gate, work: Callable[[], T]
) -> tuple[asyncio.Future[str], asyncio.Future[T]]:
    """Have the gate run on the only thread and ``work`` wait behind it."""
    running = asyncio.ensure_future(pool.run(gate))
    await gate.wait_begun()
    waiting = asyncio.ensure_future(pool.run(work))
    # The call enters the pool when its task first runs, which is before this one goes on.
    await asyncio.sleep(0)
    return running, waiting


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await test()

    asyncio.run(bounded())


def test_a_call_returns_its_result_and_frees_its_place_first(pool: BoundedPool) -> None:
    async def test() -> None:
        for number in range(100):
            assert await pool.run(lambda number=number: number) == number
            assert pool.in_use == 0

    run(test)


def test_a_call_raises_what_its_work_raised(pool: BoundedPool) -> None:
    def work() -> None:
        raise ValueError("from the thread")

    async def test() -> None:
        with pytest.raises(ValueError, match="from the thread"):
            await pool.run(work)
        assert pool.in_use == 0
        assert await pool.run(lambda: 1) == 1

    run(test)


def test_one_call_more_than_run_and_wait_is_refused_at_once(pool: BoundedPool) -> None:
    async def test() -> None:
        gate = Gate()
        running, waiting = await fill(pool, gate, lambda: "waited")
        with pytest.raises(OverloadedError, match="2 test calls"):
            await pool.run(lambda: "refused")
        assert pool.refused == 1
        gate.open.set()
        assert await running == "done"
        assert await waiting == "waited"

    run(test)


def test_a_cancelled_call_that_waits_never_runs_and_frees_its_place(pool: BoundedPool) -> None:
    async def test() -> None:
        gate, ran = Gate(), threading.Event()
        running, waiting = await fill(pool, gate, ran.set)
        assert pool.in_use == 2
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.in_use == 1
        next_one = asyncio.ensure_future(pool.run(lambda: "next"))
        gate.open.set()
        assert await running == "done"
        assert await next_one == "next"
        assert not ran.is_set()

    run(test)


def test_a_cancelled_call_that_runs_keeps_its_place_until_it_ends(pool: BoundedPool) -> None:
    async def test() -> None:
        gate = Gate()
        running = asyncio.ensure_future(pool.run(gate))
        await gate.wait_begun()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert pool.in_use == 1
        gate.open.set()
        assert await pool.run(lambda: "after") == "after"
        assert pool.in_use == 0

    run(test)


def test_closing_drops_what_waits_and_lets_what_runs_end(pool: BoundedPool) -> None:
    async def test() -> None:
        gate, ran = Gate(), threading.Event()
        running, waiting = await fill(pool, gate, ran.set)
        closing = asyncio.ensure_future(asyncio.to_thread(pool.close))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not closing.done()
        gate.open.set()
        await closing
        assert await running == "done"
        assert not ran.is_set()
        with pytest.raises(RuntimeError, match="closed"):
            await pool.run(lambda: 1)

    run(test)
