"""buf, which reads proto files: its binary from npm, at the version of the lock file beside this one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.services.npm import ensure_modules

HERE = Path(__file__).resolve().parent


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one command of buf; what it complains of is on standard output."""
    (binary,) = ensure_modules(HERE).glob("node_modules/@bufbuild/buf-linux-*/bin/buf")
    return subprocess.run(
        [binary, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
