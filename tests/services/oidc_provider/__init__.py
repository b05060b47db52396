"""A real OpenID provider: npm `oidc-provider`, at the versions of the lock file beside this one."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.npm import ensure_modules, node
from tests.services.process import Process

HERE = Path(__file__).resolve().parent
CLIENT_ID = "millstream-client"
CLIENT_SECRET = "a-secret-of-more-than-32-characters-indeed"
READY_DEADLINE_SECONDS = 60.0


class OidcProvider(Process):
    """A provider on a port of its own choosing; ready when constructed. `register` comes before use.

    ``accounts`` are claims by name; who signs in types the name, and any password. With ``tls``,
    files of a certificate and its key, it speaks https.
    """

    def __init__(
        self, log_dir: Path, accounts: Mapping[str, Any], tls: tuple[Path, Path] | None = None
    ) -> None:
        program, _ = node()
        arguments: list[str | Path] = [
            HERE / "provider.mjs",
            ensure_modules(HERE),
            json.dumps(accounts),
        ]
        super().__init__("oidc_provider", [program, *arguments, *(tls or ())], log_dir)
        self.url = self.wait_ready("names its URL", READY_DEADLINE_SECONDS, self._reported_url)

    def register(self, redirect_uri: str, trusted: ssl.SSLContext | None = None) -> None:
        """Let the client come from there."""
        body = json.dumps({"redirect_uri": redirect_uri}).encode()
        request = urllib.request.Request(f"{self.url}/client", body, method="POST")
        with urllib.request.urlopen(request, context=trusted, timeout=30) as answer:
            assert answer.status == 204

    def _reported_url(self) -> str | None:
        line, end, _ = self.stdout_path.read_text().partition("\n")
        return line if end else None
