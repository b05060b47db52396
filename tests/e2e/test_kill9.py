"""The server is killed ten times during remote write; nothing acknowledged is lost, nothing is doubled or made up."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.crash_writers import (
    METRIC,
    PROGRESS_DEADLINE_SECONDS,
    SAMPLES_PER_REQUEST,
    SERIES_PER_WRITER,
    Endpoint,
    Plan,
    Writer,
    wait_for_requests,
    writing,
)
from tests.services import promql
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.remote_write import value_bits

pytestmark = pytest.mark.e2e

KILLS = 10
WRITERS = 4
# How many more acknowledged requests a kill waits for, over all writers: at least, at most.
REQUESTS_BEFORE_A_KILL = (40, 150)
RESTART_DEADLINE_SECONDS = 120.0
DATA_AGE_MS = 23 * 3600 * 1000
WINDOW = "2d"


@dataclass
class Count:
    """What checks have seen."""

    checked: int = 0
    unacknowledged_present: int = 0


def _start(root: Path, durability: str, *, wait: bool = True) -> Millstream:
    env = {"MILLSTREAM_STORAGE__DURABILITY": durability}
    return Millstream(root / "data", root / "logs", env=env, wait=wait)


def _kill_while_it_recovers(root: Path, durability: str) -> None:
    """Starts a server on the data, and kills it as soon as it has a file of the data open."""
    server = _start(root, durability, wait=False)
    data = str((root / "data").resolve())

    def has_opened_data() -> bool:
        try:
            links = [str(entry.readlink()) for entry in Path(f"/proc/{server.pid}/fd").iterdir()]
        except OSError:
            # A descriptor closed while it was looked at, or the process has gone, which the check below tells.
            links = []
        return any(link.startswith(data + "/") for link in links)

    server.wait_ready("opens its data", RESTART_DEADLINE_SECONDS, has_opened_data)
    server.kill()


def _expected(writer: Writer, acknowledged: int, series: int) -> dict[int, int]:
    return {
        sample.timestamp_ms: sample.bits
        for sequence in range(acknowledged)
        for sample in writer.plan.samples(series, sequence)
    }


def _check_writer(client: Client, writer: Writer, *, under_way: bool, count: Count) -> None:
    """Compares everything the server holds of one writer with what it acknowledged.

    `under_way` allows, but does not demand, the samples of the one request whose answer never came.
    """
    acknowledged = writer.acknowledged
    now_ms = time.time_ns() // 1_000_000
    selector = f'{METRIC}{{writer="{writer.plan.writer}"}}[{WINDOW}]'
    stored = promql.must_ask(client, promql.Instant(selector, now_ms))
    counted = promql.must_ask(client, promql.Instant(f"count_over_time({selector})", now_ms))
    known = {
        tuple(sorted({"__name__": METRIC, **writer.plan.labels(s)}.items()))
        for s in range(SERIES_PER_WRITER)
    }
    assert set(stored.series) <= known, f"series that nobody wrote: {set(stored.series) - known}"
    for series in range(SERIES_PER_WRITER):
        labels = writer.plan.labels(series)
        points = stored.series.get(tuple(sorted({"__name__": METRIC, **labels}.items())), {})
        got = {
            stamp: value_bits(value) for stamp, value in points.items() if isinstance(value, float)
        }
        wanted = _expected(writer, acknowledged, series)
        lost = sorted(set(wanted) - set(got))
        assert not lost, (
            f"{labels}: {len(lost)} acknowledged samples are lost, the first at {lost[0]}"
        )
        changed = [stamp for stamp, bits in wanted.items() if got[stamp] != bits]
        assert not changed, f"{labels}: {len(changed)} values changed, the first at {changed[0]}"
        extra = {stamp: bits for stamp, bits in got.items() if stamp not in wanted}
        allowed = (
            {
                sample.timestamp_ms: sample.bits
                for sample in writer.plan.samples(series, acknowledged)
            }
            if under_way
            else {}
        )
        invented = {stamp: bits for stamp, bits in extra.items() if allowed.get(stamp) != bits}
        assert not invented, (
            f"{labels}: samples that nobody wrote: {dict(list(invented.items())[:5])}"
        )
        total = counted.series.get(tuple(sorted(labels.items())), {}).get(now_ms, 0.0)
        assert total == len(got), (
            f"{labels}: count_over_time says {total}, the samples are {len(got)}"
        )
        count.checked += len(wanted)
        count.unacknowledged_present += len(extra)


def _check(url: str, writers: list[Writer], *, under_way: bool) -> Count:
    count = Count()
    with Client(url) as client:
        for writer in writers:
            _check_writer(client, writer, under_way=under_way, count=count)
    return count


# Eleven starts and stops, each behind the disk of whatever else the machine does.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("durability", ["process", "fsync"])
def test_nothing_acknowledged_is_lost_or_doubled_when_the_server_is_killed(
    tmp_path: Path, durability: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    endpoint = Endpoint()
    first_ms = (time.time_ns() // 1_000_000 - DATA_AGE_MS) // 1000 * 1000
    writers = [Writer(Plan(number, first_ms), endpoint) for number in range(WRITERS)]
    restarts: list[float] = []
    report: list[str] = [f"durability={durability} seed={seed}"]
    server = _start(tmp_path, durability)
    try:
        with writing(writers):
            for kill in range(1, KILLS + 1):
                endpoint.publish(server.url)
                wait_for_requests(writers, chance.randint(*REQUESTS_BEFORE_A_KILL))
                server.kill()
                endpoint.publish(None)
                if kill % 2 == 0:
                    _kill_while_it_recovers(tmp_path, durability)
                before = time.monotonic()
                server = _start(tmp_path, durability, wait=False)
                server.wait_serving(RESTART_DEADLINE_SECONDS)
                restarts.append(time.monotonic() - before)
                # The writers wait for the new address, so what is acknowledged stands still during the check.
                count = _check(server.url, writers, under_way=True)
                report.append(
                    f"kill {kill}: up again after {restarts[-1]:.2f} s, {count.checked} acknowledged samples present, "
                    f"{count.unacknowledged_present} more of unanswered requests"
                )
            endpoint.publish(server.url)
            wait_for_requests(writers, WRITERS)
            for writer in writers:
                writer.finish()
            for writer in writers:
                writer.join(PROGRESS_DEADLINE_SECONDS)
                assert not writer.is_alive(), f"{writer.name} got no answer to its last request"
        final = _check(server.url, writers, under_way=False)
        assert server.stop() == 0, f"SIGTERM did not end it cleanly\n{server.log_tail()}"
        server = _start(tmp_path, durability)
        again = _check(server.url, writers, under_way=False)
    except BaseException as error:
        error.add_note("\n".join(report))
        error.add_note(server.log_tail())
        raise
    finally:
        server.kill()
    requests = sum(writer.acknowledged for writer in writers)
    interrupted = sum(writer.interrupted for writer in writers)
    put_off = sum(len(writer.put_off) for writer in writers)
    report.append(
        f"{requests} requests acknowledged, {interrupted} cut off by a kill and sent again, {put_off} put off by the "
        f"server; {final.checked} samples, each there exactly once, and again after a clean restart; "
        f"slowest restart {max(restarts):.2f} s"
    )
    with capsys.disabled():
        print("\n" + "\n".join(report))
    assert final.checked == again.checked == requests * SERIES_PER_WRITER * SAMPLES_PER_REQUEST
    assert interrupted > 0, "no kill cut a request off, so this run proved little"
