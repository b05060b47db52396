"""One child process that is a service: started, waited for, and stopped by its process id.

Lifetime    The kernel kills the child when the thread that started it dies, so even a crashed test run leaves nothing
            behind. Start services from a thread that outlives them (a test's main thread does).
Logs        Standard output and error go to files in the folder the caller names; a failure shows their ends.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests import no_secrets

POLL_SECONDS = 0.02
STOP_DEADLINE_SECONDS = 20.0
LOG_TAIL_BYTES = 4000

T = TypeVar("T")


class ServiceError(RuntimeError):
    """A service did not start, did not get ready or did not stop in time; the text carries the end of its log."""


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago; for programs that cannot choose and report their own."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, deadline_seconds: float, attempt: Callable[[], T | None]) -> T:
    """Calls `attempt` every 20 ms until it returns something other than None or False; names `what` when it is late."""
    give_up = time.monotonic() + deadline_seconds
    while True:
        answer = attempt()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > give_up:
            raise ServiceError(f"{what}: not so after {deadline_seconds:g} s")
        time.sleep(POLL_SECONDS)


def resident_bytes(pid: int) -> int:
    """How much memory a process has of its own and shares, without what is swapped out."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Process:
    """A running child. Use as a context manager, or call `stop`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log_dir: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        log_dir.mkdir(parents=True, exist_ok=True)
        run = len(list(log_dir.glob(f"{name}.*.out")))
        self.stdout_path = log_dir / f"{name}.{run}.out"
        self.stderr_path = log_dir / f"{name}.{run}.err"
        # What other people's programs write is their affair.
        if name.startswith("millstream"):
            no_secrets.watch(self.stdout_path)
            no_secrets.watch(self.stderr_path)
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ServiceError("setpriv (util-linux) is missing")
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            # setpriv replaces itself with the command, so the process id stays the service's own.
            self._child = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""
        return self._child.poll()

    def stdout(self) -> str:
        return self.stdout_path.read_text(errors="replace")

    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace")

    def log_tail(self) -> str:
        """The ends of both logs, for a failure's message."""
        return (
            f"--- {self.name}: {' '.join(self.command)}\n"
            f"--- exit code: {self.returncode}\n"
            f"--- stdout {self.stdout_path}\n{self.stdout()[-LOG_TAIL_BYTES:]}\n"
            f"--- stderr {self.stderr_path}\n{self.stderr()[-LOG_TAIL_BYTES:]}"
        )

    def wait_ready(self, what: str, deadline_seconds: float, attempt: Callable[[], T | None]) -> T:
        """As `wait_until`, but fails at once, with the log, when the process ends first."""

        def once() -> T | None:
            answer = attempt()
            if (answer is None or answer is False) and self.returncode is not None:
                raise ServiceError(f"{self.name} ended before it was ready\n{self.log_tail()}")
            return answer

        try:
            return wait_until(f"{self.name}: {what}", deadline_seconds, once)
        except ServiceError as error:
            tail = "" if "--- stdout" in str(error) else f"\n{self.log_tail()}"
            self.stop()
            raise ServiceError(f"{error}{tail}") from None

    def wait_exit(self, deadline_seconds: float) -> int:
        """Waits for the process to end by itself and returns its exit code."""
        try:
            return self._child.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            self.kill()
            raise ServiceError(
                f"{self.name} still ran after {deadline_seconds:g} s\n{tail}"
            ) from None

    def terminate(self) -> None:
        """Sends SIGTERM and returns at once."""
        if self.returncode is None:
            self._child.terminate()

    def kill(self) -> None:
        """SIGKILL to the process and its group, and reaps it."""
        if self.returncode is None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._child.kill()
        self._child.wait()

    def stop(self, deadline_seconds: float = STOP_DEADLINE_SECONDS) -> int:
        """SIGTERM, then SIGKILL when the deadline passes; returns the exit code."""
        self.terminate()
        try:
            return self._child.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(self.log_tail())
