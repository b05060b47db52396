"""Events over native frames: batches of 100 over TCP, not fsynced, from the client in C++.

    .venv/bin/python -m benchmarks.python.native_events_bench --events 1000000 --rounds 5

Publishes to a node and to a server by turns, each with one connection, and prints events a second
and events for each second of the processor time that the receiving process took. `measure` is for
other benchmarks, which set others beside it.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.python.http_bench import processor_seconds
from benchmarks.python.machine import commit, machine
from tests.services.event_places import Place, node_place, server_place
from tests.services.node import built

_RATE = re.compile(r"(\d+) events acknowledged, 0 refused, 1 connections, (\d+) events/s")


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one round."""

    per_second: float
    per_cpu_second: float


def measure(place: Place, topic: str, events: int, payload_bytes: int) -> Measured:
    """Publish so many events of so many bytes to a topic that is there, and wait for the last."""
    host, port = place.address
    before = processor_seconds(place.process.pid)
    ran = subprocess.run(
        [
            built("native/native_events_example"),
            host,
            str(port),
            topic,
            str(events),
            str(payload_bytes),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = processor_seconds(place.process.pid) - before
    told = _RATE.search(ran.stdout)
    if told is None or int(told[1]) != events:
        raise RuntimeError(f"not all was stored: {ran.stdout}{ran.stderr}")
    return Measured(float(told[2]), events / seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--bytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"commit {commit()} on {machine()}")
    print(f"{arguments.events} events of {arguments.bytes} bytes, batches of 100, one connection")
    runs: dict[str, list[Measured]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = {
            "node": stack.enter_context(node_place(folder / "node")),
            "server": stack.enter_context(server_place(folder / "server")),
        }
        for number in range(arguments.rounds):
            for name, place in places.items():
                topic = f"bench-{number}"
                place.create(topic)
                one = measure(place, topic, arguments.events, arguments.bytes)
                runs.setdefault(name, []).append(one)
    for name, of in runs.items():
        rate = statistics.median(one.per_second for one in of)
        per_cpu = statistics.median(one.per_cpu_second for one in of)
        print(f"{name:8} {rate:12,.0f} events/s {per_cpu:12,.0f} events for each CPU second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
