"""A real OpenID provider: npm `oidc-provider`, at the versions of the lock file beside this one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.http import Client
from tests.services.npm import ensure_modules, node
from tests.services.process import Process

HERE = Path(__file__).resolve().parent
CLIENT_ID = "millstream-client"
CLIENT_SECRET = "a-secret-of-more-than-32-characters-indeed"
READY_DEADLINE_SECONDS = 60.0


class OidcProvider(Process):
    """A provider on a port of its own choosing; ready when constructed. `register` comes before use.

    ``accounts`` are claims by name; who signs in types the name, and any password.
    """

    def __init__(self, log_dir: Path, accounts: Mapping[str, Any]) -> None:
        program, _ = node()
        super().__init__(
            "oidc_provider",
            [program, HERE / "provider.mjs", ensure_modules(HERE), json.dumps(accounts)],
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
