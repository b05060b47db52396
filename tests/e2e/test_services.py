"""The starters themselves: nothing that they start outlives its test, and a failure shows the service's log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.process import Process, ServiceError, wait_until

pytestmark = pytest.mark.e2e
DEADLINE_SECONDS = 30.0


def is_running(pid: int) -> bool:
    """Whether the process exists and is not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def program_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()


def test_service_dies_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from tests.services.process import Process\n"
        f"service = Process('sleeper', ['sleep', '1000'], Path({str(tmp_path)!r}))\n"
        "print(service.pid, flush=True)\n"
        "import signal; signal.pause()\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        # Before that the child has not yet asked to die with its parent.
        wait_until("the service has begun", DEADLINE_SECONDS, lambda: program_of(pid) == "sleep")
        os.kill(run.pid, signal.SIGKILL)
    wait_until("the service is gone", DEADLINE_SECONDS, lambda: not is_running(pid))


def test_service_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    service = Process(
        "stubborn", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], tmp_path
    )
    service.wait_ready("is up", DEADLINE_SECONDS, lambda: "up" in service.stdout())
    assert service.stop(deadline_seconds=0.1) == -signal.SIGKILL


def test_service_that_ends_early_fails_with_its_log(tmp_path: Path) -> None:
    service = Process("broken", ["sh", "-c", "echo what went wrong >&2; exit 3"], tmp_path)
    with pytest.raises(ServiceError, match=r"(?s)exit code: 3.*what went wrong"):
        service.wait_ready("is up", DEADLINE_SECONDS, lambda: False)


def test_service_that_is_never_ready_is_named_and_stopped(tmp_path: Path) -> None:
    service = Process("slow", ["sleep", "1000"], tmp_path)
    with pytest.raises(ServiceError, match=r"slow: opens its port: not so after 0\.1 s"):
        service.wait_ready("opens its port", 0.1, lambda: False)
    assert not is_running(service.pid)


def test_failing_test_body_carries_the_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="the test failed") as failure,
        Process("s", ["sleep", "9"], tmp_path),
    ):
        raise ValueError("the test failed")
    assert "sleep 9" in failure.value.__notes__[0]
