"""Events are found by ids of their clients, over HTTP, however many came since and whatever became of the index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.services.http import Client
from tests.services.millstream import Millstream

pytestmark = pytest.mark.e2e

EVENTS = 60_000
BATCH = 2_000
# Segments have an eighth of it, and none goes: the topic has less.
RETENTION_BYTES = 6 << 20


def publish_all(client: Client) -> None:
    topic = {"name": "orders", "partitions": 1, "retention_bytes": RETENTION_BYTES}
    headers = {"Content-Type": "application/json"}
    made = client.request("POST", "/v1/topics", body=json.dumps(topic).encode(), headers=headers)
    assert made.status == 201, made.text
    for first in range(0, EVENTS, BATCH):
        events = [
            {"topic": "orders", "payload": {"number": n}, "id": f"order-{n}"}
            for n in range(first, first + BATCH)
        ]
        body = json.dumps({"events": events}).encode()
        answer = client.request("POST", "/v1/events", body=body, headers=headers)
        assert answer.status == 202, answer.text


def check(url: str) -> None:
    with Client(url) as client:
        for number in (0, 1, 7_777, EVENTS - 20_000, EVENTS - 1):
            found = client.get(f"/v1/events/order-{number}")
            assert found.status == 200, found.text
            place = found.json()
            assert (place["id"], place["topic"], place["offset"]) == (
                f"order-{number}",
                "orders",
                number,
            )
        assert client.get(f"/v1/events/order-{EVENTS}").status == 404


def damage(folder: Path) -> int:
    """Breaks each run in another way; returns how many there were."""
    runs = sorted(folder.glob("*.ids"))
    for number, run in enumerate(runs):
        if number % 3 == 0:
            run.unlink()
        elif number % 3 == 1:
            run.write_bytes(run.read_bytes()[: run.stat().st_size // 2])
        else:
            run.write_bytes(bytes(byte ^ 0x55 for byte in run.read_bytes()))
    return len(runs)


def test_an_event_is_found_by_its_clients_id_after_a_kill_and_without_its_index(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with Millstream(data, tmp_path / "first") as server:
        with Client(server.url) as client:
            publish_all(client)
        check(server.url)
        server.kill()
    # Of several segments: the server's own topics are small.
    (folder,) = (
        found for found in data.glob("**/ids") if len(list(found.parent.glob("*.log"))) > 3
    )
    with Millstream(data, tmp_path / "second") as server:
        check(server.url)
        assert damage(folder) > 0
        check(server.url)
        assert server.stop() == 0
    assert damage(folder) > 0
    with Millstream(data, tmp_path / "third") as server:
        check(server.url)
