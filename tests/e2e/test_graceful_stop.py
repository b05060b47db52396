"""SIGTERM during remote write: the server finishes what it took, exits with 0, and everything acknowledged is there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.crash_writers import (
    METRIC,
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

pytestmark = pytest.mark.e2e

STOP_DEADLINE_SECONDS = 30.0
REQUESTS_BEFORE_A_STOP = 60
STOPS = 3


def test_sigterm_during_writes_exits_0_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    endpoint = Endpoint()
    now_ms = time.time_ns() // 1_000_000
    writers = [Writer(Plan(number, now_ms - 20 * 3_600_000), endpoint) for number in range(3)]
    with writing(writers):
        for _ in range(STOPS):
            server = Millstream(tmp_path / "data", tmp_path / "logs")
            endpoint.publish(server.url)
            wait_for_requests(writers, REQUESTS_BEFORE_A_STOP)
            server.terminate()
            code = server.wait_exit(STOP_DEADLINE_SECONDS)
            endpoint.publish(None)
            assert code == 0, server.log_tail()
            assert "Traceback" not in server.stderr(), server.log_tail()
    assert not [writer.refused for writer in writers if writer.refused]
    with Millstream(tmp_path / "data", tmp_path / "logs") as server, Client(server.url) as client:
        for writer in writers:
            expr = f'sum(count_over_time({METRIC}{{writer="{writer.plan.writer}"}}[1d]))'
            stored = promql.instant_value(client, expr, now_ms)
            per_request = SERIES_PER_WRITER * SAMPLES_PER_REQUEST
            least = writer.acknowledged * per_request
            # The one request under way when the server went may be stored too; its answer may not have come.
            assert stored is not None
            assert least <= stored <= least + per_request


def test_sigterm_of_an_idle_server_exits_0_at_once_and_says_nothing_on_stdout(
    tmp_path: Path,
) -> None:
    server = Millstream(tmp_path / "data", tmp_path / "logs")
    with Client(server.url) as client:
        # A keep-alive connection that stays open must not hold the server up.
        assert client.get("/health").status == 200
        server.terminate()
        assert server.wait_exit(STOP_DEADLINE_SECONDS) == 0, server.log_tail()
    assert server.stdout().count("\n") == 1
