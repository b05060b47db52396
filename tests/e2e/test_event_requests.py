"""Request and reply over topics: in this process, over the network, and with asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream.errors import DeadlineExceededError, InvalidArgumentError
from tests.services.millstream import Millstream

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    folder = tmp_path_factory.mktemp("requests")
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


@contextmanager
def doubling(db: Any, name: str) -> Iterator[None]:
    """Answers each request of a topic with twice its number until the text "stop" comes."""
    topic = db.topic(name)
    topic.create()
    tail = topic.subscribe()

    def serve() -> None:
        with tail:
            for event in tail:
                if event.json() == "stop":
                    return
                topic.reply(event, event.json() * 2)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        topic.publish("stop")
        thread.join(30)
        assert not thread.is_alive()


def test_each_of_many_requests_at_once_gets_its_own_reply(db: Any) -> None:
    with doubling(db, "double.many"), ThreadPoolExecutor(8) as pool:
        numbers = range(40)
        replies = list(
            pool.map(lambda n: db.topic("double.many").request(n, timeout=30, key=str(n)), numbers)
        )
        assert [one.json() for one in replies] == [n * 2 for n in numbers]
        assert [one.key for one in replies] == [str(n).encode() for n in numbers]
    assert db.topic("double.many.replies").describe()["durability"] == "ephemeral"


def test_a_request_that_nobody_answers_says_so_in_time(db: Any) -> None:
    with pytest.raises(DeadlineExceededError, match=r"silence.*silence\.replies"):
        db.topic("silence").request({"n": 1}, timeout=0.2)
    assert [event.json() for event in db.topic("silence").fetch()] == [{"n": 1}]


def test_a_reply_goes_nowhere_that_was_not_allowed(db: Any) -> None:
    topic = db.topic("asked")
    with pytest.raises(DeadlineExceededError):
        topic.request(1, timeout=0, reply_to="payments")
    topic.publish(2)
    asked, plain = topic.fetch()
    with pytest.raises(InvalidArgumentError, match="'payments', which allow does not name"):
        topic.reply(asked, "x")
    with pytest.raises(InvalidArgumentError, match="no request"):
        topic.reply(plain, "x")
    assert len(db.topic("payments").fetch()) == 0
    topic.reply(asked, "x", allow=["pay*"], headers={"h": "v"})
    (reply,) = db.topic("payments").fetch()
    assert reply.json() == "x"
    assert reply.headers["correlation-id"] == asked.headers["correlation-id"]
    assert reply.headers["h"] == b"v"


def test_asyncio_asks_and_answers(server: Millstream) -> None:
    async def main() -> list[Any]:
        async with millstream.aio.connect(server.url) as db:
            topic = db.topic("aio.double")
            await topic.create()

            async def serve() -> None:
                async with topic.subscribe(offset="earliest") as tail:
                    async for event in tail:
                        await topic.reply(event, event.json() * 2)

            serving = asyncio.create_task(serve())
            replies = await asyncio.gather(*(topic.request(n, timeout=30) for n in range(20)))
            serving.cancel()
            with pytest.raises(DeadlineExceededError):
                await topic.request(0, timeout=0.2)
            return [one.json() for one in replies]

    assert asyncio.run(main()) == [n * 2 for n in range(20)]
