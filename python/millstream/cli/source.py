"""Where commands read from and write to: a server over HTTP, or a data folder in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import typer

from millstream._database import Database
from millstream._database import open as open_database
from millstream._remote.calls import import_lines, import_text
from millstream._result import QueryResult
from millstream.cli.remote import connected

if TYPE_CHECKING:
    from millstream._remote.client import Client

#: An import may be one of hours; it does not end at the first hiccup.
_TRIES: Final = 8


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

    def push(self, form: str, body: bytes, options: Mapping[str, str]) -> Pushed: ...


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
        with connected(server, token, tenant, tries=_TRIES if create else 1) as client:
            yield ServerSource(client)
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

    def push(self, form: str, body: bytes, options: Mapping[str, str]) -> Pushed:
        result = self._database._engine.push(form, body, options=dict(options))
        return Pushed(
            result.samples, result.rejected, [(line, why) for line, _, why in result.errors]
        )


class ServerSource:
    """A Millstream server, or for queries any server that speaks Prometheus's API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def query(self, expression: str, time_ms: int) -> QueryResult:
        return self._client.query(expression, time_ms)

    def query_range(self, expression: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult:
        return self._client.query_range(expression, start_ms, end_ms, step_ms)

    def push(self, form: str, body: bytes, options: Mapping[str, str]) -> Pushed:
        if form == "influx":
            result = self._client._run(import_lines(body, options["precision"]))
        else:
            result = self._client._run(import_text(body, open_metrics=form == "open_metrics"))
        return Pushed(
            result.samples, result.rejected, [(line, why) for line, _, why in result.errors]
        )


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
