"""Where commands read from and write to: a server over HTTP, or a data folder in this process."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import typer

from millstream._database import Database
from millstream._database import open as open_database
from millstream._result import QueryResult
from millstream.errors import (
    Code,
    InternalError,
    MillstreamError,
    UnavailableError,
    error_class,
)

_ANSWER_BYTES_MAX: Final = 1 << 30
_TIMEOUT_SECONDS: Final = 300
_CODE_OF_STATUS: Final = {
    400: Code.INVALID_ARGUMENT,
    404: Code.NOT_FOUND,
    413: Code.RESOURCE_EXHAUSTED,
    422: Code.FAILED_PRECONDITION,
    429: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
}


@dataclass(frozen=True)
class Pushed:
    """What came of pushing text: counts, and refused lines as (line, reason)."""

    samples: int
    rejected: int
    errors: Sequence[tuple[int, str]]


class Source(Protocol):
    """What the commands need of a store."""

    def query(self, expression: str, time_ms: int) -> QueryResult: ...

    def query_range(
        self, expression: str, start_ms: int, end_ms: int, step_ms: int
    ) -> QueryResult: ...

    def push_text(self, text: bytes, *, open_metrics: bool) -> Pushed: ...


@contextmanager
def source_of(server: str | None, data: Path | None, *, create: bool = False) -> Iterator[Source]:
    """Exactly one of the two; a folder without a database is an error, unless it may be made."""
    if (server is None) == (data is None):
        raise typer.BadParameter("give either --server URL or --data DIR")
    if server is not None:
        yield ServerSource(server)
        return
    if data is not None:
        with open_database(data, create=create) as database:
            yield FolderSource(database)


class FolderSource:
    """An engine in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def query(self, expression: str, time_ms: int) -> QueryResult:
        return self._database.query(expression, time_ms)

    def query_range(self, expression: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult:
        return self._database.query_range(expression, start_ms, end_ms, step_ms)

    def push_text(self, text: bytes, *, open_metrics: bool) -> Pushed:
        result = self._database._engine.push_text(text, open_metrics=open_metrics)
        return Pushed(
            result.samples, result.rejected, [(line, why) for line, _, why in result.errors]
        )


class ServerSource:
    """A Millstream server, or for queries any server that speaks Prometheus's API."""

    def __init__(self, url: str) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise typer.BadParameter(f"{url} is not an http:// or https:// URL")
        self._url = url.rstrip("/")

    def query(self, expression: str, time_ms: int) -> QueryResult:
        return self._ask("query", {"query": expression, "time": _seconds(time_ms)})

    def query_range(self, expression: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult:
        return self._ask(
            "query_range",
            {
                "query": expression,
                "start": _seconds(start_ms),
                "end": _seconds(end_ms),
                "step": _seconds(step_ms),
            },
        )

    def push_text(self, text: bytes, *, open_metrics: bool) -> Pushed:
        kind = "application/openmetrics-text; version=1.0.0" if open_metrics else "text/plain"
        status, body = self._post("import/prometheus", text, kind)
        document = _decode(body)
        data = document.get("data")
        if not isinstance(data, dict):
            raise _error(status, document)
        errors = [(item["line"], item["message"]) for item in data.get("errors", ())]
        return Pushed(data["samples"], data.get("rejected", 0), errors)

    def _ask(self, route: str, form: dict[str, str]) -> QueryResult:
        kind = "application/x-www-form-urlencoded"
        status, body = self._post(route, urllib.parse.urlencode(form).encode(), kind)
        document = _decode(body)
        if document.get("status") != "success":
            raise _error(status, document)
        return QueryResult.from_json(
            json.dumps(document["data"], ensure_ascii=False).encode(),
            document.get("warnings", ()),
            document.get("infos", ()),
        )

    def _post(self, route: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        # The scheme was checked when this was made.
        request = urllib.request.Request(  # noqa: S310
            f"{self._url}/api/v1/{route}", body, {"Content-Type": content_type}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                return answer.status, answer.read(_ANSWER_BYTES_MAX)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(_ANSWER_BYTES_MAX)
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise UnavailableError(f"{self._url} does not answer: {reason}") from None


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _seconds(milliseconds: int) -> str:
    sign, rest = ("-" if milliseconds < 0 else ""), abs(milliseconds)
    return f"{sign}{rest // 1000}.{rest % 1000:03d}"


def _decode(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        raise InternalError("the server answered something that is not JSON") from None
    if not isinstance(document, dict):
        raise InternalError("the server answered something that is not Prometheus's envelope")
    return document


def _error(status: int, document: dict[str, Any]) -> MillstreamError:
    message = str(document.get("error") or document.get("detail") or f"HTTP status {status}")
    return error_class(_CODE_OF_STATUS.get(status, Code.UNKNOWN))(message)
