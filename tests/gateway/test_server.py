"""The server as a process: its ready line, its logs, its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gateway.conftest import needs_engine

SERVE_FAKE = """
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.server import serve
from millstream_gateway.settings import load_settings
serve(load_settings(None, {"server": {"port": 0}}), FakeBackend())
"""


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def ready_url(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    line = started.stdout.readline()
    match = re.fullmatch(r"Millstream is ready at (http://127\.0\.0\.1:\d+)\n", line)
    assert match, line
    return match[1]


def get(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_exit_code_0(number: signal.Signals) -> None:
    with process("-c", SERVE_FAKE) as started:
        assert get(ready_url(started) + "/-/ready") == 200
        started.send_signal(number)
        out, err = started.communicate(timeout=30)
    assert started.returncode == 0, err
    assert out == "", "the ready line must be the only line"


def test_logs_are_json_lines_with_the_correlation_id_and_cannot_be_forged() -> None:
    with process("-c", SERVE_FAKE) as started:
        url = ready_url(started)
        path = "/x%0A%7B%22event%22%3A%22forged%22%7D"
        assert get(url + path, **{"X-Correlation-ID": "trace-1"}) == 404
        started.terminate()
        _, err = started.communicate(timeout=30)
    records = [json.loads(line) for line in err.splitlines()]
    assert [record["event"] for record in records] == ["started", "request", "stopped"]
    assert records[1]["correlation_id"] == "trace-1"
    assert records[1]["path"] == '/x\n{"event":"forged"}'


def test_another_address_than_loopback_is_wrong_usage() -> None:
    with process("-m", "millstream", "serve", "--host", "0.0.0.0", "--port", "0") as started:
        out, err = started.communicate(timeout=30)
    assert started.returncode == 2
    assert "not a loopback address" in err
    assert out == ""


@needs_engine
def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with process("-m", "millstream", "serve", "--port", "0", "--data", str(tmp_path / "a")) as one:
        port = ready_url(one).rpartition(":")[2]
        command = ("-m", "millstream", "serve", "--port", port, "--data", str(tmp_path / "b"))
        with process(*command) as two:
            _, err = two.communicate(timeout=30)
    assert two.returncode == 1
    assert err == f"error: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


@needs_engine
def test_a_folder_in_use_is_one_clear_line(tmp_path: Path) -> None:
    command = ("-m", "millstream", "serve", "--port", "0", "--data", str(tmp_path / "data"))
    with process(*command) as one:
        ready_url(one)
        with process(*command) as two:
            _, err = two.communicate(timeout=30)
    assert two.returncode == 1
    assert err.startswith("error: ")
    assert str(tmp_path / "data") in err
    assert err.count("\n") == 1


@needs_engine
def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    command = ("-m", "millstream", "serve", "--port", "0", "--data", str(tmp_path / "data"))
    with process(*command) as first:
        body = b'{"metrics":[{"name":"kept","value":7}]}'
        url = ready_url(first)
        request = urllib.request.Request(
            url + "/metrics", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
        first.terminate()
        first.communicate(timeout=30)
    assert first.returncode == 0
    with process(*command) as second:
        url = ready_url(second)
        with urllib.request.urlopen(url + "/api/v1/query?query=kept", timeout=20) as answer:
            assert json.load(answer)["data"]["result"][0]["value"][1] == "7"
