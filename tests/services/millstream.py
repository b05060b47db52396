"""The Millstream server as its users start it: `python -m millstream serve`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.services.process import Process

READY_DEADLINE_SECONDS = 120.0
_READY_LINE = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\]):\d+")


def serve_command(data: Path, *extra: str) -> list[str]:
    """The command line that serves `data` on a port of the server's choosing."""
    return [sys.executable, "-m", "millstream", "serve", "--port", "0", "--data", str(data), *extra]


def topic_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`millstream topic ...`, when it has ended."""
    command = [sys.executable, "-m", "millstream", "topic", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


class Millstream(Process):
    """`millstream serve` with an embedded engine.

    Ready when constructed unless `wait` is off; then `url` may be read once `wait_serving` returned.
    """

    def __init__(
        self,
        data: Path,
        log_dir: Path,
        *,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        wait: bool = True,
    ) -> None:
        super().__init__(
            "millstream", [*wrapper, *serve_command(data, *arguments)], log_dir, env=env
        )
        self.url = ""
        if wait:
            self.wait_serving()

    def wait_serving(self, deadline_seconds: float = READY_DEADLINE_SECONDS) -> str:
        """Waits for the ready line and returns the URL in it."""
        self.url = self.wait_ready("prints its URL", deadline_seconds, self._reported_url)
        return self.url

    def _reported_url(self) -> str | None:
        # Only whole lines: the file may end in the middle of one.
        text = self.stdout()
        match = _READY_LINE.search(text[: text.rfind("\n") + 1])
        return match.group(0) if match else None
