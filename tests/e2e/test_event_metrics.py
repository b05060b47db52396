"""Metrics of events through a real server: the commands, the verbs of Python, and kills in between."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

import millstream
from millstream import RetryPolicy
from millstream.errors import MillstreamError
from tests.services.millstream import Millstream, topic_command
from tests.services.process import free_port, wait_until

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS = 60.0
KILLS = 4
EVENTS_BEFORE_A_KILL = 1_500
REGIONS = ("eu", "us", "asia")
PATIENT = RetryPolicy(attempts=200, first="20ms", longest="200ms")
RULES: list[dict[str, Any]] = [
    {"metric": "orders_total", "labels": {"region": "payload.region"}},
    {
        "metric": "orders_amount_total",
        "value": "payload.amount",
        "labels": {"region": "payload.region"},
    },
]


def by_region(db: Any, query: str) -> dict[str, float]:
    found = json.loads(db.query(query).to_json())["result"]
    return {one["metric"].get("region", ""): float(one["value"][1]) for one in found}


def test_the_commands_set_rules_and_show_them(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    rule = 'orders_amount_total = counter(payload.amount) by region=payload.region where key == "a"'
    made = topic_command(
        "create", "orders", "--metric", rule, "--metric", '{"metric": "n"}', "--data", data
    )
    assert made.returncode == 0, made.stderr
    shown = topic_command("describe", "orders", "--data", data).stdout
    assert f"metric: {rule}\n" in shown
    assert "metric: n = counter\n" in shown
    listed = json.loads(
        topic_command("describe", "orders", "--output", "json", "--data", data).stdout
    )
    assert listed["metrics"][0]["labels"] == {"region": "payload.region"}
    wrong = topic_command("create", "b", "--metric", "m = sum(payload.a)", "--data", data)
    assert wrong.returncode != 0
    assert "counter(FIELD)" in wrong.stderr


def test_the_verbs_are_the_same_in_this_process_and_over_the_network(tmp_path: Path) -> None:
    with (
        Millstream(tmp_path / "server", tmp_path / "logs") as server,
        millstream.open(tmp_path / "db") as embedded,
        millstream.connect(server.url) as remote,
    ):
        for db in (embedded, remote):
            topic = db.topic("orders")
            assert topic.create(metrics=RULES[:1])["metrics"][0]["metric"] == "orders_total"
            assert len(topic.alter(metrics=RULES)["metrics"]) == 2
            topic.publish_many([{"region": "eu", "amount": n} for n in range(10)])

            def counted(db: Any = db) -> bool | None:
                amount = by_region(db, "orders_amount_total") == {"eu": 45.0}
                return (amount and by_region(db, "orders_total") == {"eu": 10.0}) or None

            wait_until("the events are counted", DEADLINE_SECONDS, counted)
            assert by_region(db, "sum by (region) (rate(orders_amount_total[5m]))")["eu"] > 0


def test_a_killed_server_counts_every_event_once(tmp_path: Path) -> None:
    port = free_port()

    def start() -> Millstream:
        return Millstream(tmp_path / "data", tmp_path / "logs", arguments=("--port", str(port)))

    servers = [start()]
    acknowledged: list[int] = []
    stop = threading.Event()
    faults: list[BaseException] = []

    def publish() -> None:
        try:
            with millstream.connect(servers[0].url, retry=PATIENT) as db:
                for first in range(0, 100_000_000, 20):
                    if stop.is_set():
                        return
                    batch = [
                        millstream.NewEvent(
                            {"region": REGIONS[n % 3], "amount": n % 7}, id=f"e{n}", key=f"{n % 5}"
                        )
                        for n in range(first, first + 20)
                    ]
                    # Sent again until it is acknowledged: its ids keep it from being there twice.
                    for one in db.topic("orders").publish_many(batch):
                        assert not isinstance(one, MillstreamError)
                    acknowledged.extend(range(first, first + 20))
        except BaseException as error:
            faults.append(error)

    try:
        with millstream.connect(servers[0].url, retry=PATIENT) as db:
            db.topic("orders").create(partitions=3, metrics=RULES)
            publisher = threading.Thread(target=publish)
            publisher.start()
            try:
                for kill in range(KILLS):
                    wanted = (kill + 1) * EVENTS_BEFORE_A_KILL

                    def enough(count: int = wanted) -> bool | None:
                        return len(acknowledged) >= count or bool(faults) or None

                    wait_until("so many are acknowledged", DEADLINE_SECONDS, enough)
                    servers[-1].kill()
                    servers.append(start())
            finally:
                stop.set()
                publisher.join(DEADLINE_SECONDS)
            assert not faults, faults
            expected = dict.fromkeys(REGIONS, 0.0)
            amounts = dict.fromkeys(REGIONS, 0.0)
            for n in acknowledged:
                expected[REGIONS[n % 3]] += 1
                amounts[REGIONS[n % 3]] += n % 7

            def settled() -> bool | None:
                return by_region(db, "orders_total") == expected or None

            wait_until("every event is counted, once", DEADLINE_SECONDS, settled)
            assert by_region(db, "orders_amount_total") == amounts
            resets = by_region(db, "resets(orders_amount_total[1h])")
            assert resets == dict.fromkeys(REGIONS, 0.0), "totals went down"
            print(f"{len(acknowledged)} events, {KILLS} kills")
    finally:
        servers[-1].stop()
