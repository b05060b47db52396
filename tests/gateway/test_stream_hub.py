"""The pumps that poll subscriptions: whatever is enqueued is polled, whenever that happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from millstream_gateway.services.stream_hub import Feed, StreamHub


class GatedPool:
    """Each call waits until its gate is opened."""

    def __init__(self) -> None:
        self.gates: list[asyncio.Future[None]] = []

    async def wait_and_run(self, work: Callable[[], Any]) -> Any:
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        return work()


async def test_news_between_the_end_of_a_pump_and_the_loop_telling_of_it_are_polled() -> None:
    pool = GatedPool()
    polled: list[str] = []

    def poll_frames(feeds: list[tuple[str, bytes]], **_: int) -> list[tuple[bytes, int, int]]:
        polled.extend(subscription for subscription, _ in feeds)
        return [(b"", 0, 0) for _ in feeds]

    events: Any = SimpleNamespace(poll_frames=poll_frames)
    unused: Any = None
    hub = StreamHub(unused, events, unused, unused, pool, unused)  # type: ignore[arg-type]

    def enqueue(name: str) -> None:
        tail: Any = SimpleNamespace(subscription=name)
        hub.enqueue(Feed(hub, name, unused, tail, ()))

    enqueue("a")
    await asyncio.sleep(0)
    enqueue("b")
    await asyncio.sleep(0)
    assert len(pool.gates) == 2, "as many pumps as there may be"
    for gate in pool.gates:
        gate.set_result(None)
    # Runs when both pumps have ended, and before anybody was told that they have.
    asyncio.get_running_loop().call_soon(enqueue, "c")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(pool.gates) == 3
    pool.gates[2].set_result(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert polled == ["a", "b", "c"]
