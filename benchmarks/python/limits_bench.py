"""What it costs to ask the limits before a request is let in, with the default and with all of them.

In memory as processor time; with `--redis` in a real redis-server as the time that a request waits,
beside that of the client's shortest question.

python -m benchmarks.python.limits_bench [--redis]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import uvloop
from redis.asyncio import Redis as Client

from benchmarks.python.machine import machine
from benchmarks.python.timing import microseconds
from millstream_gateway.backends.local_meta_store import MemoryMetaStore
from millstream_gateway.schemas.access import Caller, Role
from millstream_gateway.schemas.access import Principal as Someone
from millstream_gateway.services.limits import Limiter
from millstream_gateway.settings import LimitsSettings, RedisSettings, Settings
from tests.services.redis import Redis

CHECKS: Final = 5_000
MANY: Final = 10**9


def default_limits() -> LimitsSettings:
    return LimitsSettings(json_requests_per_second=MANY)


def every_limit() -> LimitsSettings:
    names = [name for name in LimitsSettings.model_fields if name.endswith("_per_second")]
    return LimitsSettings(**dict.fromkeys(names, MANY))


async def shared_milliseconds(
    caller: Caller, limits: LimitsSettings, url: str, at_a_time: int
) -> tuple[float, float]:
    """How long a request waits for the limits in Redis: the median, and the 99th percentile."""
    settings = Settings(
        limits=limits, redis=RedisSettings.model_validate({"url": url, "timeout": "10s"})
    )
    limiter = Limiter(settings, MemoryMetaStore())
    await limiter.start()
    waits: list[float] = []

    async def ask() -> None:
        for _ in range(CHECKS // at_a_time):
            began = time.perf_counter()
            await limiter.admit(caller, by_tenant=True, is_json=True, size=600)
            waits.append((time.perf_counter() - began) * 1e3)

    await asyncio.gather(*(ask() for _ in range(at_a_time)))
    await limiter.stop()
    waits.sort()
    return statistics.median(waits), waits[int(len(waits) * 0.99)]


async def ping_milliseconds(url: str) -> float:
    """The median of what the client needs to ask Redis for nothing."""
    async with Client.from_url(url) as client:
        waits = []
        for _ in range(CHECKS):
            began = time.perf_counter()
            await client.ping()
            waits.append((time.perf_counter() - began) * 1e3)
    return statistics.median(waits)


def with_redis(caller: Caller) -> None:
    with TemporaryDirectory() as folder, Redis(Path(folder)) as redis:
        print(f"{'a PING of redis-py':<40} {uvloop.run(ping_milliseconds(redis.url)):8.3f} ms")
        for rates, limits, at_a_time in (
            ("the default", default_limits(), 1),
            ("all ten rates", every_limit(), 1),
            ("all ten rates", every_limit(), 16),
        ):
            asked = shared_milliseconds(caller, limits, redis.url, at_a_time)
            median, slow = uvloop.run(asked)
            name = f"{rates} in Redis, {at_a_time} at a time"
            print(f"{name:<40} {median:8.3f} ms, p99 {slow:.3f} ms")


def main() -> None:
    someone = Someone("key", "k", "k", Role.USER, frozenset(), frozenset({"default"}))
    caller = Caller(someone, client="192.0.2.1")
    print(machine())
    for name, limits in (
        ("no limits", LimitsSettings(json_requests_per_second=0)),
        ("the default (JSON requests)", default_limits()),
        ("all ten rates", every_limit()),
    ):
        limiter = Limiter(Settings(limits=limits), MemoryMetaStore())

        def ask(limiter: Limiter = limiter) -> object:
            admission = limiter.admit_here(caller, by_tenant=True, is_json=True, size=600)
            return admission and admission.headers()

        print(f"{name:<40} {microseconds(ask, CHECKS):8.2f} us")
    if "--redis" in sys.argv[1:]:
        with_redis(caller)


if __name__ == "__main__":
    main()
