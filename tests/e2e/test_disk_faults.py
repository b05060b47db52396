"""The real server on a disk that fails: it acknowledges nothing that it may lose, and stops in good order."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import fill
from tests.services import promql
from tests.services.http import Client, Response
from tests.services.millstream import Millstream
from tests.services.remote_write import Sample, Series, sorted_labels, write

pytestmark = pytest.mark.e2e

NOW_MS = time.time_ns() // 1_000_000
# Counted by strace for each thread by itself; enough for the start to succeed.
FSYNCS_THAT_SUCCEED = 30
WRITES_MAX = 5_000
WRITES_AFTER_THE_FAULT = 20
STOP_DEADLINE_SECONDS = 60.0


def test_failed_fsync_ends_all_acknowledgements_and_loses_none(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    assert strace is not None, "strace is missing: make setup"
    fault = f"inject=fsync,fdatasync:error=EIO:when={FSYNCS_THAT_SUCCEED + 1}+"
    wrapper = (strace, "-D", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", fault)
    data = tmp_path / "data"
    env = {"MILLSTREAM_STORAGE__DURABILITY": "fsync"}
    acknowledged: list[int] = []

    def write_one(client: Client, sequence: int) -> Response:
        sample = Sample.of(NOW_MS - WRITES_MAX + sequence, float(sequence))
        return write(client, [Series(sorted_labels("faulty_disk"), [sample])])

    server = Millstream(data, tmp_path / "logs", env=env, wrapper=wrapper)
    try:
        with Client(server.url) as client:
            sequence = 0
            response = write_one(client, sequence)
            while response.status == 204:
                acknowledged.append(sequence)
                sequence += 1
                assert sequence < WRITES_MAX, "every fsync fails, and writes are still acknowledged"
                response = write_one(client, sequence)
            assert response.status in (500, 503), response.text
            # The kernel forgets the pages of a failed fsync, so that a later success would prove nothing.
            for later in range(sequence + 1, sequence + 1 + WRITES_AFTER_THE_FAULT):
                response = write_one(client, later)
                assert response.status in (500, 503), f"acknowledged after a failed fsync: {later}"
            assert client.get("/-/healthy").status == 200
    finally:
        server.kill()
    assert acknowledged
    with Millstream(data, tmp_path / "logs", env=env) as again, Client(again.url) as client:
        answer = promql.must_ask(client, promql.Instant("faulty_disk[1h]", NOW_MS))
        (points,) = answer.series.values()
        lost = [
            number for number in acknowledged if points.get(NOW_MS - WRITES_MAX + number) != number
        ]
        assert not lost, f"{len(lost)} acknowledged samples are lost: {lost[:10]}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_on_a_full_disk_says_so_in_one_line_exits_1_and_loses_nothing(
    tmp_path: Path, small_disk: Path, number: signal.Signals
) -> None:
    data, ballast = small_disk / "data", small_disk / "ballast"
    acknowledged = 0

    def write_next(client: Client) -> Response:
        # Long labels, so that little space is soon used up.
        labels = sorted_labels("stopped", sequence=str(acknowledged), padding="x" * 16_000)
        return write(client, [Series(labels, [Sample.of(NOW_MS, float(acknowledged))])])

    with Millstream(data, tmp_path / "full") as server:
        with Client(server.url) as client:
            assert write_next(client).status == 204
            acknowledged += 1
            fill(ballast)
            # What is allocated already may still take some.
            response = write_next(client)
            while response.status == 204:
                acknowledged += 1
                assert acknowledged < WRITES_MAX, "the disk is full, and writes are accepted"
                response = write_next(client)
            assert response.status == 503, response.text
        os.kill(server.pid, number)
        assert server.wait_exit(STOP_DEADLINE_SECONDS) == 1, server.log_tail()
        lines = [json.loads(line) for line in server.stderr().splitlines()]
        (fault,) = (line for line in lines if line["level"] == "error")
        assert "No space left on device" in fault["error"]
        assert "Traceback" not in server.stderr()
        assert lines[-1] == fault
    ballast.unlink()
    with Millstream(data, tmp_path / "after") as again, Client(again.url) as client:
        answer = promql.must_ask(client, promql.Instant("stopped", NOW_MS))
        stored = {int(dict(key)["sequence"]): at[NOW_MS] for key, at in answer.series.items()}
        assert stored == {sequence: float(sequence) for sequence in range(acknowledged)}
