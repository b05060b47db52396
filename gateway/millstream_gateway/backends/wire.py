"""What the core does for the listeners beside the store: lines become bodies that a backend takes.

Bodies of the format ``columns`` go to `Backend.push`, whatever they were decoded from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from millstream_gateway.schemas.push import ItemError, WriteBody

COLUMNS: Final = "columns"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of lines. ``refused`` broke a rule; for ``dropped`` there was no room."""

    values: int
    refused: int
    dropped: int = 0
    errors: tuple[ItemError, ...] = ()


@dataclass(frozen=True, slots=True)
class MappingRule:
    """One rule of a Graphite mapping, as `millstream_gateway.settings` explains it."""

    match: str
    name: str
    labels: Mapping[str, str]
    drop: bool


class GraphiteDecoder:
    """Threads  Any, and with the GIL released."""

    def __init__(self, rules: Sequence[MappingRule], *, strict: bool) -> None:
        from millstream import _core

        self._decoder = _core.GraphiteDecoder(
            [(rule.match, rule.name, dict(rule.labels), rule.drop) for rule in rules], strict=strict
        )

    def decode(self, lines: bytes, now_ms: int) -> tuple[WriteBody, Taken]:
        """Whole lines as one body, and what was refused of them."""
        body, values, refused, errors = self._decoder.decode(lines, now_ms)
        return WriteBody(COLUMNS, body), Taken(values, refused, 0, _errors(errors))


class StatsdAggregator:
    """Threads  Any, and with the GIL released."""

    def __init__(
        self,
        *,
        series_max: int,
        bytes_max: int,
        idle_ms: int,
        gauge_deltas: bool,
        labels: Mapping[str, str],
    ) -> None:
        from millstream import _core

        self._aggregator = _core.StatsdAggregator(
            series_max=series_max,
            bytes_max=bytes_max,
            idle_ms=idle_ms,
            gauge_deltas=gauge_deltas,
            labels=list(labels.items()),
        )

    @property
    def series(self) -> int:
        return self._aggregator.series

    def add(self, lines: bytes, now_ms: int) -> Taken:
        """Take lines of one or several datagrams."""
        values, refused, dropped, errors = self._aggregator.add(lines, now_ms)
        return Taken(values, refused, dropped, _errors(errors))

    def flush(self, now_ms: int) -> WriteBody | None:
        """A sample of every series at ``now_ms``; none when there is no series."""
        body = self._aggregator.flush(now_ms)
        return WriteBody(COLUMNS, body) if body else None


def _errors(items: Iterable[tuple[int, str, str]]) -> tuple[ItemError, ...]:
    return tuple(ItemError(*item) for item in items)
