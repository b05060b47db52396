"""Samples that become events, through real servers: the commands, the verbs of Python, and kill -9 in between."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import millstream
from millstream import RetryPolicy
from millstream.errors import InvalidArgumentError
from tests.services.http import Client, answers_ok
from tests.services.millstream import Millstream, topic_command
from tests.services.node import Node
from tests.services.process import free_port, wait_until

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS = 60.0
KILLS = 2
WRITES_BEFORE_A_KILL = 200
PARTITIONS = 3
FIRST_MS = time.time_ns() // 1_000_000 - 600_000
PATIENT = RetryPolicy(attempts=200, first="20ms", longest="200ms")
UNLIMITED = {"MILLSTREAM_LIMITS__JSON_REQUESTS_PER_SECOND": "0"}


def test_the_commands_and_the_verbs_feed_a_topic(tmp_path: Path) -> None:
    with (
        Millstream(tmp_path / "server", tmp_path / "logs") as server,
        millstream.open(tmp_path / "db") as embedded,
        millstream.connect(server.url) as remote,
    ):
        at = ("--server", server.url)
        selector = 'up{job="api"}'
        made = topic_command("create", "health", "--from-metrics", selector, *at)
        assert made.returncode == 0, made.stderr
        assert f"from_metrics: {selector}\n" in topic_command("describe", "health", *at).stdout
        embedded.topic("health").create(from_metrics=[selector])
        for db in (embedded, remote):
            db.write("up", {"job": "api"}, timestamps=[FIRST_MS], values=[1.0])
            db.write("up", {"job": "db"}, timestamps=[FIRST_MS], values=[1.0])
            (event,) = db.topic("health").fetch()
            expected = {"name": "up", "labels": {"job": "api"}, "value": 1, "timestamp": FIRST_MS}
            assert json.loads(event.payload) == expected
            assert event.timestamp_ms == FIRST_MS
            for wrong in (["up{"], "up"):
                with pytest.raises(InvalidArgumentError):
                    db.topic("health").alter(from_metrics=wrong)
            assert db.topic("health").alter(from_metrics=["a", "b"])["from_metrics"] == ["a", "b"]
        wrong_one = topic_command("alter", "health", "--from-metrics", "up{", *at)
        assert wrong_one.returncode != 0
        assert "1:4: parse error" in wrong_one.stderr
        removed = topic_command("alter", "health", "--no-from-metrics", *at)
        assert removed.returncode == 0, removed.stderr
        assert remote.topic("health").describe()["from_metrics"] == []


class Writers:
    """Two clients that send the n-th sample of a series of their own until it is acknowledged."""

    def __init__(self, url: str) -> None:
        self.acknowledged: Counter[str] = Counter()
        self.faults: list[BaseException] = []
        self._stop = threading.Event()
        self._url = url
        self._threads = [
            threading.Thread(target=self._run, args=(one,))
            for one in (self._json, self._remote_write)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)

    def wait_for(self, writes: int) -> None:
        def enough() -> bool:
            slowest = min(self.acknowledged[way] for way in ("json", "remote"))
            return slowest >= writes or bool(self.faults)

        wait_until("so many are acknowledged", DEADLINE_SECONDS, enough)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.faults.append(error)

    def _json(self) -> None:
        with Client(self._url) as client:
            n = 0
            while not self._stop.is_set():
                if self._sent(client, n):
                    n += 1
                    self.acknowledged["json"] = n

    def _sent(self, client: Client, n: int) -> bool:
        samples = [
            {"name": name, "labels": {"way": "json"}, "value": n, "timestamp": FIRST_MS + n}
            for name in ("load", "noise")
        ]
        body = json.dumps({"metrics": samples}).encode()
        headers = {"Content-Type": "application/json"}
        try:
            answer = client.request("POST", "/metrics", body=body, headers=headers)
        except (OSError, http.client.HTTPException):
            wait_until("it is back", DEADLINE_SECONDS, self._is_back)
            return False
        assert answer.status >= 500 or 200 <= answer.status < 300, answer.text
        return answer.status < 300

    def _is_back(self) -> bool:
        return answers_ok(self._url, "/health") or self._stop.is_set()

    def _remote_write(self) -> None:
        with millstream.connect(self._url, retry=PATIENT) as db:
            n = 0
            while not self._stop.is_set():
                times = np.array([FIRST_MS + n, FIRST_MS + n + 1])
                db.write("load", {"way": "remote"}, timestamps=times, values=[n, n + 1.0])
                n += 2
                self.acknowledged["remote"] = n


class EmbeddedServer:
    """A server with an engine of its own, which is what dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._server = self._start()
        self.url = self._server.url

    def _start(self) -> Millstream:
        arguments = ("--port", str(self._port))
        return Millstream(
            self._folder / "data", self._folder / "logs", arguments=arguments, env=UNLIMITED
        )

    def kill(self) -> None:
        self._server.kill()
        self._server = self._start()

    def stop(self) -> None:
        self._server.stop()


class ServerOfANode:
    """A server before a node, which is what dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._grpc = f"127.0.0.1:{free_port()}"
        self._node = self._start()
        self._front = Millstream(
            folder / "unused", folder / "logs", arguments=("--nodes", self._grpc), env=UNLIMITED
        )
        self.url = self._front.url

    def _start(self) -> Node:
        return Node(self._folder / "data", self._folder / "logs", grpc=self._grpc)

    def kill(self) -> None:
        self._node.kill()
        self._node = self._start()

    def stop(self) -> None:
        self._front.stop()
        self._node.stop()


@pytest.mark.parametrize("kind", [EmbeddedServer, ServerOfANode])
def test_kill_9_takes_no_event_of_an_acknowledged_sample_and_doubles_none(
    tmp_path: Path, kind: type[EmbeddedServer] | type[ServerOfANode]
) -> None:
    server = kind(tmp_path)
    try:
        with millstream.connect(server.url, retry=PATIENT) as db:
            topic = db.topic("loads")
            topic.create(partitions=PARTITIONS, from_metrics=["load"])
            with Writers(server.url) as writers:
                for kill in range(KILLS):
                    writers.wait_for((kill + 1) * WRITES_BEFORE_A_KILL)
                    server.kill()
                writers.wait_for((KILLS + 1) * WRITES_BEFORE_A_KILL)
            assert not writers.faults, writers.faults
            found: dict[str, list[int]] = {"json": [], "remote": []}
            for partition in range(PARTITIONS):
                for event in events_of(topic, partition):
                    assert event["name"] == "load"
                    found[event["labels"]["way"]].append(event["value"])
            for way, count in writers.acknowledged.items():
                # In order, each once; what was under way at the end may be there, too.
                assert found[way] == list(range(len(found[way]))), way
                assert count <= len(found[way]) <= count + 2, way
            print(f"{dict(writers.acknowledged)} acknowledged, {KILLS} kills")
    finally:
        server.stop()


def events_of(topic: Any, partition: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    offset: Any = "earliest"
    while True:
        got = topic.fetch(partition=partition, offset=offset, limit=1000)
        out += [json.loads(event.payload) for event in got]
        if got.next_offset >= got.end_offset:
            return out
        offset = got.next_offset
