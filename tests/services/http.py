"""A small HTTP client for the tests: one request, the whole answer, no retries and no hidden redirects."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

DEFAULT_TIMEOUT_SECONDS = 60.0
Parameters = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class Response:
    """A whole HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A keep-alive connection to one server. One thread at a time."""

    def __init__(self, base_url: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        parts = urllib.parse.urlsplit(base_url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"not an http URL with host and port: {base_url!r}")
        self.base_url = base_url.rstrip("/")
        self._connection = http.client.HTTPConnection(
            parts.hostname, parts.port, timeout=timeout_seconds
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Parameters | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends one request. A failure of the connection is an OSError or http.client.HTTPException."""
        target = path + ("?" + urllib.parse.urlencode(params, doseq=True) if params else "")
        try:
            self._connection.request(method, target, body=body, headers=dict(headers or {}))
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            # The connection's state is unknown; the next request opens a new one.
            self._connection.close()
            raise
        return Response(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
        )

    def get(self, path: str, params: Parameters | None = None) -> Response:
        return self.request("GET", path, params=params)

    def post_form(self, path: str, form: Parameters) -> Response:
        return self.request(
            "POST",
            path,
            body=urllib.parse.urlencode(form, doseq=True).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def json_calls(client: Client, key: str) -> Callable[..., dict[str, Any]]:
    """`call(method, path, **body)`: sends JSON with a key, and returns what a success is answered with."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(method: str, path: str, **body: object) -> dict[str, Any]:
        sent = json.dumps(body).encode() if body else None
        told = client.request(method, path, body=sent, headers=headers)
        assert 200 <= told.status < 300, told.text
        return dict(told.json()) if told.body else {}

    return call


def answers_ok(base_url: str, path: str) -> bool:
    """Whether a GET of `path` is answered with 200 now; no listener is False, not an error."""
    try:
        with Client(base_url, timeout_seconds=5) as client:
            return client.get(path).status == 200
    except (OSError, http.client.HTTPException):
        return False
