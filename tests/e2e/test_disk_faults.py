"""The real server on a disk whose fsync fails: from then on it acknowledges nothing more."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

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
