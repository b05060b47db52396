"""What the clients with and without asyncio make of a URL, credentials and failures."""

from __future__ import annotations

import os
import ssl
import urllib.parse
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import httpx2

from millstream._columns import Span, span_ms
from millstream._remote.calls import ANSWER_BYTES_MAX, Call, Failure
from millstream.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)

_NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
)
_CONNECT_SECONDS: Final = 10.0
_CONNECTIONS_MAX: Final = 100

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Address:
    """One server, how to speak to it, and the credentials for it."""

    url: str
    headers: dict[str, str]
    timeout: httpx2.Timeout
    verify: ssl.SSLContext | bool

    @classmethod
    def of(
        cls,
        url: str,
        *,
        token: str | None,
        tenant: str | None,
        timeout: Span,
        ca_file: Path | None,
        cert_file: Path | None,
        key_file: Path | None,
    ) -> Address:
        """Raises `InvalidArgumentError` for what can never work."""
        try:
            parts = urllib.parse.urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        except ValueError:
            good = False
        if not good or parts.query or parts.fragment:
            raise InvalidArgumentError(f"{url} is not an http:// or https:// URL of a server")
        if parts.username is not None or parts.password is not None:
            raise InvalidArgumentError("credentials do not belong into the URL; give a token")
        if span_ms(timeout) <= 0:
            raise InvalidArgumentError("timeout must be positive")
        headers = {"User-Agent": f"millstream-python/{version('millstream')}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {_header_text(token, 'token')}"
        if tenant is not None:
            headers["X-Scope-OrgID"] = _header_text(tenant, "tenant")
        seconds = span_ms(timeout) / 1000
        return cls(
            url.rstrip("/"),
            headers,
            httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
            _tls(ca_file, cert_file, key_file) if parts.scheme == "https" else True,
        )

    @property
    def socket_tls(self) -> ssl.SSLContext | None:
        """For a WebSocket; None when it goes in clear."""
        return self.verify if isinstance(self.verify, ssl.SSLContext) else None

    def headers_of(self, call: Call) -> dict[str, str]:
        return {**self.headers, **(call.headers or {})}


def limits() -> httpx2.Limits:
    return httpx2.Limits(max_connections=_CONNECTIONS_MAX)


def failure_of(error: httpx2.RequestError) -> Failure:
    """What a failed exchange is to the one who asked."""
    text = str(error) or type(error).__name__
    if isinstance(error, _NOT_SENT):
        return Failure(UnavailableError(text), was_sent=False)
    if isinstance(error, httpx2.TimeoutException):
        return Failure(DeadlineExceededError(f"no answer in time: {text}"), was_sent=True)
    if isinstance(error, httpx2.TransportError):
        return Failure(UnavailableError(text), was_sent=True)
    return Failure(InternalError(text), was_sent=True, is_final=True)


class Collected:
    """The body of an answer while it comes."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._left = ANSWER_BYTES_MAX

    def add(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise ResourceExhaustedError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
        self._chunks.append(chunk)

    def bytes(self) -> bytes:
        return b"".join(self._chunks)


def _tls(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    if key_file is not None and cert_file is None:
        raise InvalidArgumentError("key_file needs cert_file")
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else os.fspath(ca_file))
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgumentError(f"the certificates cannot be used: {error}") from None
    return context


def _header_text(text: str, what: str) -> str:
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
        raise InvalidArgumentError(f"{what} has characters that no header can carry, or none")
    return text
