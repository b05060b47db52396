"""A server over HTTP, as the commands call it."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

import typer

from millstream.errors import Code, InternalError, MillstreamError, UnavailableError, error_class

_ANSWER_BYTES_MAX: Final = 1 << 30
_TIMEOUT_SECONDS: Final = 300
_CODE_OF_STATUS: Final = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ALREADY_EXISTS,
    413: Code.RESOURCE_EXHAUSTED,
    422: Code.FAILED_PRECONDITION,
    429: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
}


@dataclass(frozen=True)
class Answer:
    """A status and a JSON object."""

    status: int
    document: dict[str, Any]

    def raise_if_error(self) -> dict[str, Any]:
        """The document; the class of `millstream.errors` that the status stands for."""
        if self.status >= 400:
            raise self.error()
        return self.document

    def error(self) -> MillstreamError:
        known = self.document.get("error") or self.document.get("detail")
        message = str(known or f"HTTP status {self.status}")
        return error_class(_CODE_OF_STATUS.get(self.status, Code.UNKNOWN))(message)


class Remote:
    """One server, with the credentials for it. The credentials go there and nowhere else."""

    def __init__(self, url: str, token: str | None = None, tenant: str | None = None) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise typer.BadParameter(f"{url} is not an http:// or https:// URL")
        self.url = url.rstrip("/")
        self._headers: dict[str, str] = {}
        if token:
            self._headers["Authorization"] = f"Bearer {_one_line(token, '--token')}"
        if tenant:
            self._headers["X-Scope-OrgID"] = _one_line(tenant, "--tenant")

    def json(self, method: str, path: str, body: object = None) -> Answer:
        """Send JSON, or nothing when the body is None."""
        encoded = None if body is None else json.dumps(body).encode()
        return self.send(method, path, encoded, "application/json")

    def send(self, method: str, path: str, body: bytes | None, content_type: str) -> Answer:
        # The scheme was checked when this was made.
        request = urllib.request.Request(f"{self.url}{path}", body, method=method)  # noqa: S310
        if body is not None:
            request.add_header("Content-Type", content_type)
        for name, value in self._headers.items():
            # Not sent again to wherever the server may redirect to.
            request.add_unredirected_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                return Answer(answer.status, _decode(answer.read(_ANSWER_BYTES_MAX)))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _decode(error.read(_ANSWER_BYTES_MAX)))
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UnavailableError(f"{self.url} does not answer: {reason}") from None


def _one_line(text: str, option: str) -> str:
    if not text.isprintable() or not text.isascii():
        raise typer.BadParameter(f"{option} has characters that no header can carry")
    return text


def _decode(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        raise InternalError("the server answered something that is not JSON") from None
    if not isinstance(document, dict):
        raise InternalError("the server answered something that is not Prometheus's envelope")
    return document
