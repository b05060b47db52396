"""A Millstream server with listeners beside HTTP, and what a test asks it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.process import ServiceError, wait_until

DEADLINE_SECONDS = 20.0


class Listening(Millstream):
    """Settings are given by section: ``{"graphite": {"port": 0}}``."""

    def __init__(
        self, data: Path, log_dir: Path, settings: Mapping[str, Mapping[str, Any]]
    ) -> None:
        config = log_dir / "listening.yaml"
        log_dir.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(settings))
        super().__init__(data, log_dir, arguments=("--config", str(config)))

    def address_of(self, listener: str) -> tuple[str, int]:
        """Where the ready line says that this listener is."""
        match = re.search(rf"{listener} ([\d.]+):(\d+)", self.stdout())
        if match is None:
            raise ServiceError(f"no {listener} in the ready line {self.stdout()!r}")
        return match[1], int(match[2])


def query(client: Client, expr: str, time_s: float | None = None) -> list[dict[str, Any]]:
    """The result of an instant query."""
    params = {"query": expr} if time_s is None else {"query": expr, "time": str(time_s)}
    answer = client.request("GET", "/api/v1/query", params=params).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def wait_for_value(client: Client, expr: str, value: float, time_s: float | None = None) -> None:
    """Wait until the query has one result with this value."""

    def there() -> bool:
        found = query(client, expr, time_s)
        return len(found) == 1 and float(found[0]["value"][1]) == value

    try:
        wait_until(f"{expr} is {value}", DEADLINE_SECONDS, there)
    except ServiceError as error:
        raise ServiceError(f"{error}; it is {query(client, expr, time_s)}") from None


def own_metric(client: Client, line: str) -> float:
    """The value of one line of the server's own metrics; 0 when it is not there."""
    text = client.request("GET", "/metrics").text
    match = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else 0.0
