"""A server over HTTP, as the commands call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from millstream._remote.calls import document
from millstream._remote.retries import RetryPolicy
from millstream.errors import InvalidArgumentError

if TYPE_CHECKING:
    from millstream._remote.client import Client


def connected(url: str, token: str | None, tenant: str | None = None, *, tries: int = 1) -> Client:
    """The server; wrong usage when there can be none. Somebody waits, so one try is the rule."""
    from millstream._remote.client import connect

    try:
        return connect(
            url, token=token or None, tenant=tenant or None, retry=RetryPolicy(attempts=tries)
        )
    except InvalidArgumentError as error:
        raise typer.BadParameter(str(error)) from None


class Remote:
    """The JSON routes of one server."""

    def __init__(self, url: str, token: str | None = None, tenant: str | None = None) -> None:
        self._client = connected(url, token, tenant)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send JSON, or nothing when the body is None."""
        return self._client._run(document(method, path, body))
