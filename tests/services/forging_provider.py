"""An OpenID provider, and a GitHub, that answers what a test tells it to, truth or forgery.

Every answer is made by a function that the test may replace, so that each thing a client has to check can be wrong by
itself. Who is asked to sign in is signed in at once.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.gateway.token_support import Signer

CLIENT_ID = "millstream-client"
CLIENT_SECRET = "a-secret-of-more-than-32-characters-indeed"
Json = dict[str, Any]


@dataclass
class Provider:
    """What it says about itself, about people, and what it was asked."""

    url: str
    signer: Signer
    published: list[Json]
    claims: Json = field(default_factory=lambda: {"sub": "ann", "name": "Ann", "groups": ["ops"]})
    userinfo: Json = field(default_factory=dict)
    user: Json = field(default_factory=lambda: {"id": 7, "login": "octocat", "name": "Octo"})
    orgs: Any = field(default_factory=lambda: [{"login": "millstream"}])
    discovery: Json = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    #: What the browser brings back, from what it was sent with.
    answer: Callable[[dict[str, str]], dict[str, str]] = lambda query: {
        "code": query["code"],
        "state": query["state"],
    }
    #: The ID token, from its claims.
    id_token: Callable[[Json], str | None] | None = None
    #: The whole answer of the token endpoint, in place of the true one.
    token_answer: tuple[int, Json] | None = None

    def settings(self, **more: Any) -> Json:
        return {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "issuer": self.url,
            "role_claim": "groups",
            "roles": {"ops": "admin", "staff": "readonly"},
            **more,
        }

    def describe(self) -> Json:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/jwks",
            **self.discovery,
        }

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        code = base64.urlsafe_b64encode(hashlib.sha256(query["state"].encode()).digest()).decode()
        self.codes[code] = query
        back = self.answer({**query, "code": code})
        return f"{query['redirect_uri']}?{urllib.parse.urlencode(back)}"

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, Json]:
        if self.token_answer is not None:
            return self.token_answer
        query = self.codes.pop(form.get("code", ""), None)
        if query is None or form.get("redirect_uri") != query["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if query.get("code_challenge_method") != "S256" or query.get("code_challenge") != challenge:
            return 400, {"error": "invalid_grant"}
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        by_form = form.get("client_secret") == CLIENT_SECRET
        if authorization != f"Basic {basic}" and not by_form:
            return 401, {"error": "invalid_client"}
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 60,
            "nonce": query.get("nonce"),
            **self.claims,
        }
        made = self.signer.token(claims) if self.id_token is None else self.id_token(claims)
        answer = {"access_token": "at-for-userinfo", "token_type": "Bearer", "expires_in": 60}
        return 200, answer if made is None else {**answer, "id_token": made}


@functools.cache
def _signer() -> Signer:
    return Signer("RS256", "p1")


@contextmanager
def forging_provider() -> Iterator[Provider]:
    """Listens on loopback until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            provider.asked.append(("GET", parts.path))
            query = dict(urllib.parse.parse_qsl(parts.query))
            if parts.path in ("/authorize", "/login/oauth/authorize"):
                self.send_response(302)
                self.send_header("Location", provider.authorize(query))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            known: dict[str, Any] = {
                "/.well-known/openid-configuration": provider.describe(),
                "/jwks": {"keys": provider.published},
            }
            if self.headers.get("Authorization") == "Bearer at-for-userinfo":
                known |= {
                    "/userinfo": {**provider.claims, **provider.userinfo},
                    "/user": provider.user,
                    "/user/orgs": provider.orgs,
                }
            self._send(200 if parts.path in known else 404, known.get(parts.path))

        def do_POST(self) -> None:
            provider.asked.append(("POST", self.path))
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = dict(urllib.parse.parse_qsl(body))
            self._send(*provider.exchange(form, self.headers.get("Authorization", "")))

        def _send(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    signer = _signer()
    provider = Provider(f"http://127.0.0.1:{server.server_address[1]}", signer, [signer.jwk])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
