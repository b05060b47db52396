"""Producers that publish from the background: in this process, over a bad network, through kills."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream import RetryPolicy
from millstream.errors import FailedPreconditionError, InvalidArgumentError, MillstreamError
from tests.services.flaky_proxy import DROP_AFTER, DROP_BEFORE, PASS, Fault, FlakyProxy
from tests.services.millstream import Millstream
from tests.services.process import free_port

pytestmark = pytest.mark.e2e

PATIENT = RetryPolicy(attempts=1000, first="10ms", longest="200ms")
EVENTS = 5_000
KILLS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    folder = tmp_path_factory.mktemp("producers")
    with Millstream(folder / "data", folder / "logs") as running:
        yield running


@pytest.fixture(params=["embedded", "remote"])
def db(request: pytest.FixtureRequest, server: Millstream, tmp_path: Path) -> Iterator[Any]:
    if request.param == "embedded":
        with millstream.open(tmp_path / "db") as embedded:
            yield embedded
    else:
        with millstream.connect(server.url) as remote:
            yield remote


def numbers(db: Any, topic: str) -> list[Any]:
    return [one.json() for one in db.topic(topic).fetch(limit=10_000)]


def test_events_are_stored_in_order_and_acknowledged_one_by_one(db: Any) -> None:
    with db.topic("line").producer(in_flight=100) as producer:
        futures: list[Future[Any]] = []
        for n in range(EVENTS):
            futures.append(producer.publish(n, key="k"))
            assert producer.in_flight <= 100
        producer.flush()
        assert producer.in_flight == 0
        assert [one.result(0).offset for one in futures] == list(range(EVENTS))
    assert numbers(db, "line") == list(range(EVENTS))
    with pytest.raises(FailedPreconditionError, match="closed"):
        producer.publish(1)


def test_a_refused_event_harms_no_other_and_is_told_of(db: Any) -> None:
    db.topic("narrow").create(event_bytes_max=1024)
    producer = db.topic("narrow").producer()
    futures = [producer.publish("x" * (2_000 if n == 3 else 10)) for n in range(6)]
    with pytest.raises(InvalidArgumentError, match="neither bytes nor JSON"):
        producer.publish({"a set"})
    with pytest.raises(MillstreamError, match="1024"):
        producer.flush()
    assert [one.exception(0) is None for one in futures] == [True] * 3 + [False] + [True] * 2
    producer.flush()
    producer.close()
    assert len(db.topic("narrow").fetch()) == 5


def test_a_bad_network_loses_and_doubles_nothing(server: Millstream) -> None:
    chance = random.Random(7)
    faults = [chance.choice([PASS, DROP_BEFORE, DROP_AFTER, Fault(status=503)]) for _ in range(60)]
    with (
        FlakyProxy(server.url) as proxy,
        millstream.connect(proxy.url, retry=PATIENT) as db,
    ):
        db.topic("flaky").create(partitions=1)
        proxy.script(faults)
        with db.topic("flaky").producer(in_flight=50) as producer:
            futures = [producer.publish(n) for n in range(EVENTS)]
        assert [one.result(0).offset for one in futures] == list(range(EVENTS))
    with millstream.connect(server.url) as db:
        assert numbers(db, "flaky") == list(range(EVENTS))


def test_kills_of_the_server_neither_lose_nor_double_nor_reorder(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    port = free_port()

    def start() -> Millstream:
        return Millstream(tmp_path / "data", tmp_path / "logs", arguments=("--port", str(port)))

    servers = [start()]
    request.addfinalizer(lambda: servers[-1].stop())
    with millstream.connect(servers[0].url, retry=PATIENT) as db:
        db.topic("killed").create(partitions=3)
        producer = db.topic("killed").producer(in_flight=200)
        futures = []
        for kill in range(KILLS):
            for n in range(kill * EVENTS // KILLS, (kill + 1) * EVENTS // KILLS):
                futures.append(producer.publish(n, key=str(n % 7)))
            servers[-1].kill()
            servers.append(start())
        producer.close()
        assert all(one.exception(0) is None for one in futures)
        found = {p: db.topic("killed").fetch(partition=p, limit=10_000) for p in range(3)}
    stored = [(event.key, event.json()) for events in found.values() for event in events]
    assert sorted(n for _, n in stored) == list(range(len(futures)))
    for key in {key for key, _ in stored}:
        mine = [n for one, n in stored if one == key]
        assert mine == sorted(mine), "a key keeps its order"
    print(f"{KILLS} kills, {len(futures)} acknowledged, {len(stored)} stored")


def test_asyncio_publishes_from_the_background(server: Millstream) -> None:
    async def main() -> list[int]:
        async with millstream.aio.connect(server.url) as db:
            await db.topic("aio").create(event_bytes_max=1024)
            async with db.topic("aio").producer(in_flight=64) as producer:
                futures = [await producer.publish(n) for n in range(EVENTS)]
                assert producer.in_flight <= 64
                await producer.flush()
                too_long = await producer.publish("x" * 2_000)
                with pytest.raises(MillstreamError, match="1024"):
                    await producer.flush()
                assert too_long.exception() is not None
            with pytest.raises(FailedPreconditionError):
                await producer.publish(1)
            return [one.result().offset for one in futures]

    assert asyncio.run(main()) == list(range(EVENTS))
