"""What of limits in Redis needs no Redis: how long a request waits for one that has gone."""

from __future__ import annotations

import asyncio

import pytest

from millstream_gateway.backends.redis_buckets import (
    ASK_AND_PAY,
    RedisBuckets,
    SharedGoneError,
    Step,
)
from millstream_gateway.settings import RedisSettings


async def test_when_redis_goes_those_who_wait_for_a_place_do_not_ask_it_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0
    full, gone = asyncio.Event(), asyncio.Event()

    async def evaluate(*_: object) -> bytes:
        nonlocal asked
        asked += 1
        if asked == 16:
            full.set()
        await gone.wait()
        raise TimeoutError

    buckets = RedisBuckets(RedisSettings(url="redis://127.0.0.1:1"))
    monkeypatch.setattr(buckets, "_evaluate", evaluate)
    monkeypatch.setattr(buckets, "_knock", lambda: None)
    buckets.up = True
    step = Step("k", 1.0, 1.0, 60.0, ASK_AND_PAY)
    # Each of a tenant of its own, so each goes alone.
    asking = [asyncio.ensure_future(buckets.ask(str(tag), (step,))) for tag in range(100)]
    await full.wait()
    gone.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(one, SharedGoneError) for one in answers)
    assert asked == 16
    await buckets.stop()
