"""An idempotent producer over native frames (an id and sequences) that is killed again and again, and its server too."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from millstream import native
from tests.e2e.numbered_producer import PRODUCER, event_of
from tests.services.event_places import Place, node_place, server_place
from tests.services.process import wait_until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "numbered"
PARTITIONS = 3
EPOCH = 1
# How often the producer dies; the server dies under the one behind these as well.
KILLS = 3
SERVER_KILLS_AFTER = (1,)
EVENTS_BEFORE_A_KILL = (400, 1600)
DEADLINE_SECONDS = 60.0
Open = Callable[..., AbstractContextManager[Place]]
PLACES: dict[str, Open] = {"server": server_place, "node": node_place}


class Producer:
    """The program, running; what it prints goes to a file, which outlives it."""

    def __init__(self, folder: Path, port: int, first: int, end: int) -> None:
        self._first = first
        self._said = folder / f"producer.{first}.out"
        self._errors = folder / f"producer.{first}.err"
        command = [sys.executable, "-m", "tests.e2e.numbered_producer", str(port), TOPIC]
        command += map(str, (PARTITIONS, EPOCH, first, end))
        with self._said.open("w") as said, self._errors.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=said, stderr=errors, cwd=ROOT)

    @property
    def acknowledged(self) -> int:
        """All numbers below are."""
        lines = self._said.read_text().splitlines()
        return int(lines[-1]) if lines else self._first

    def wait_for(self, acknowledged: int) -> None:
        def come_so_far() -> bool:
            assert self._process.poll() is None, self._errors.read_text()
            return self.acknowledged >= acknowledged

        wait_until(f"{acknowledged} are acknowledged", DEADLINE_SECONDS, come_so_far)

    def wait(self) -> tuple[int, str]:
        """Its exit status, and what it complained of."""
        return self._process.wait(DEADLINE_SECONDS), self._errors.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def producing(folder: Path, port: int, first: int, end: int) -> Iterator[Producer]:
    producer = Producer(folder, port, first, end)
    try:
        yield producer
    finally:
        producer.kill()


def stored(address: tuple[str, int]) -> int:
    """How many numbers there are; each is there once, in order, and none is left out."""
    count = 0
    with native.connect_events(address) as client:
        for partition in range(PARTITIONS):
            found: list[int] = []
            offset: int | str = "earliest"
            while True:
                got = client.fetch(TOPIC, partition, offset)
                found += [int(event.payload) for event in got.events]
                offset = got.next_offset
                if offset >= got.end_offset:
                    break
            wanted = range(partition, partition + PARTITIONS * len(found), PARTITIONS)
            assert found == list(wanted), f"partition {partition}"
            count += len(found)
    return count


def below(count: int, address: tuple[str, int]) -> bool:
    """Whether all numbers below `count` are stored."""
    with native.connect_events(address) as client:
        ends = [client.fetch(TOPIC, one, "latest").end_offset for one in range(PARTITIONS)]
    return all(end >= len(range(one, count, PARTITIONS)) for one, end in enumerate(ends))


@pytest.mark.parametrize("name", PLACES)
def test_kill_9_of_a_producer_with_sequences_loses_doubles_and_reorders_nothing(
    name: str, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    report = [f"{name}, seed {seed}"]
    acknowledged = 0
    with ExitStack() as stack:
        place = stack.enter_context(PLACES[name](tmp_path))
        place.create(TOPIC, partitions=PARTITIONS)
        port = place.address[1]
        for kill in range(KILLS):
            with producing(tmp_path, port, acknowledged, 1_000_000) as producer:
                producer.wait_for(acknowledged + chance.randint(*EVENTS_BEFORE_A_KILL))
                if kill in SERVER_KILLS_AFTER:
                    place.process.kill()
                    place = stack.enter_context(PLACES[name](tmp_path, port=port))
                    producer.wait_for(producer.acknowledged + 1)
                producer.kill()
                acknowledged = producer.acknowledged
            there = stored(place.address)
            assert below(acknowledged, place.address), f"{report}: acknowledged and lost"
            report.append(f"{acknowledged} acknowledged, {there} stored")
        end = acknowledged + 1000
        with producing(tmp_path, port, acknowledged, end) as last:
            assert last.wait() == (0, ""), report
        assert stored(place.address) == end
        refuses_an_old_epoch(place.address, end)
    print("; ".join(report))


def refuses_an_old_epoch(address: tuple[str, int], end: int) -> None:
    """Whoever begins a new epoch shuts out the producer that it takes over from."""
    following = event_of(TOPIC, PARTITIONS, end)
    with (
        native.connect_events(address, producer=(PRODUCER, EPOCH)) as old,
        native.connect_events(address, producer=(PRODUCER, EPOCH + 1)) as new,
    ):
        new.publish(following)
        assert new.flush().stored == 1
        old.publish(following)
        (refusal,) = old.flush().refusals
        assert refusal.code == "FAILED_PRECONDITION"
        assert "is over" in refusal.reason
