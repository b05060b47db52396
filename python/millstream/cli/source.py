"""Where commands read from and write to: a server over HTTP, or a data folder in this process."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import typer

from millstream._database import Database
from millstream._database import open as open_database
from millstream._result import QueryResult
from millstream.cli.remote import Remote


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
def source_of(
    server: str | None,
    data: Path | None,
    *,
    token: str | None = None,
    tenant: str | None = None,
    create: bool = False,
) -> Iterator[Source]:
    """A server or a folder, exactly one of the two. Credentials are for the server.

    A folder without a database is an error, unless it may be made.
    """
    if (server is None) == (data is None):
        raise typer.BadParameter("give either --server URL or --data DIR")
    if server is not None:
        yield ServerSource(Remote(server, token, tenant))
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
        result = self._database._engine.push("open_metrics" if open_metrics else "text", text)
        return Pushed(
            result.samples, result.rejected, [(line, why) for line, _, why in result.errors]
        )


class ServerSource:
    """A Millstream server, or for queries any server that speaks Prometheus's API."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

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
        answer = self._remote.send("POST", "/api/v1/import/prometheus", text, kind)
        data = answer.document.get("data")
        if not isinstance(data, dict):
            raise answer.error()
        errors = [(item["line"], item["message"]) for item in data.get("errors", ())]
        return Pushed(data["samples"], data.get("rejected", 0), errors)

    def _ask(self, route: str, form: dict[str, str]) -> QueryResult:
        kind = "application/x-www-form-urlencoded"
        body = urllib.parse.urlencode(form).encode()
        answer = self._remote.send("POST", f"/api/v1/{route}", body, kind)
        if answer.document.get("status") != "success":
            raise answer.error()
        return QueryResult.from_json(
            json.dumps(answer.document["data"], ensure_ascii=False).encode(),
            answer.document.get("warnings", ()),
            answer.document.get("infos", ()),
        )


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _seconds(milliseconds: int) -> str:
    sign, rest = ("-" if milliseconds < 0 else ""), abs(milliseconds)
    return f"{sign}{rest // 1000}.{rest % 1000:03d}"
