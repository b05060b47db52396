"""What a batch job pushes: exposition as text, taken apart and put together again with its labels.

A push is taken whole or not at all, so one bad line refuses it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from millstream.errors import InvalidArgumentError
from millstream_gateway.backends.wire import TextSample, read_exposition

_LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z", re.ASCII)
_LEGACY_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z", re.ASCII)
PUSH_TIME: Final = "push_time_seconds"
FAILURE_TIME: Final = "push_failure_time_seconds"
_REASONS_SHOWN: Final = 3
# Which names beside its own a metric of a type has.
_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount", "_sum", "_count"),
    "summary": ("_sum", "_count", "_created"),
    "info": ("_info",),
}

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: what describes it, and its samples as (name, labels, value as text)."""

    name: str
    type: str
    help: str
    samples: tuple[tuple[str, Labels, str], ...]

    @property
    def names(self) -> frozenset[str]:
        """What its series are called."""
        return frozenset(name for name, _, _ in self.samples)


def parse_families(body: bytes, grouping: Labels, *, open_metrics: bool) -> dict[str, Family]:
    """The metrics of a text by name, for the group of these labels.

    `InvalidArgumentError` names the lines that are not good, with reasons and their count.
    """
    read = read_exposition(body, open_metrics=open_metrics)
    unfit = list(_unfit(read.samples, grouping))
    if count := read.refused + len(unfit):
        lines_ = sorted([*((error.position, error.reason) for error in read.errors), *unfit])
        raise InvalidArgumentError(_refusal(lines_, count))
    return _families(read.types, read.helps, read.samples)


def _unfit(samples: Iterable[TextSample], grouping: Labels) -> Iterator[tuple[int, str]]:
    """Lines that say what an import takes and a push does not, and why."""
    first_lines: dict[str, int] = {}
    for sample in samples:
        if sample.has_timestamp:
            yield (
                sample.line,
                f"{sample.name} has a timestamp; what is pushed must have none, for "
                "it stays current until it is replaced",
            )
            continue
        series = series_text(sample.name, {**sample.labels, **grouping})
        if (first := first_lines.setdefault(series, sample.line)) != sample.line:
            yield sample.line, f"the series {series} comes twice, first in line {first}"


def _refusal(refused: list[tuple[int, str]], count: int) -> str:
    shown = "; ".join(f"line {number}: {reason}" for number, reason in refused[:_REASONS_SHOWN])
    more = count - _REASONS_SHOWN
    return f"nothing of the push was taken, {count} refused: {shown}" + (
        f"; and {more} more" if more > 0 else ""
    )


def _families(
    types: Mapping[str, str], helps: Mapping[str, str], samples: Iterable[TextSample]
) -> dict[str, Family]:
    taken: defaultdict[str, list[tuple[str, Labels, str]]] = defaultdict(list)
    for sample in samples:
        # The server says these itself.
        if sample.name not in (PUSH_TIME, FAILURE_TIME):
            family = _family_of(sample.name, types)
            taken[family].append((sample.name, sample.labels, repr(sample.value)))
    found = {}
    for described, lines_ in taken.items():
        kind, text = types.get(described, "unknown"), helps.get(described, "")
        # OpenMetrics describes a counter without the end of its name; queries ask with it.
        total = f"{described}_total"
        is_total = kind == "counter" and any(name == total for name, _, _ in lines_)
        name = total if is_total else described
        found[name] = Family(name, kind, text, tuple(lines_))
    return found


def _family_of(name: str, types: Mapping[str, str]) -> str:
    """Which described metric has a series of this name; itself when none has."""
    family, _, suffix = name.rpartition("_")
    if name in types or f"_{suffix}" not in _SUFFIXES.get(types.get(family, ""), ()):
        return name
    return family


def series_of(families: Iterable[Family], grouping: Labels) -> dict[str, str]:
    """Each series in the words of the exposition, with its value; the grouping labels win."""
    return {
        series_text(name, {**labels, **grouping}): value
        for family in families
        for name, labels, value in family.samples
    }


def render(families: Iterable[Family], series: Mapping[str, str]) -> bytes:
    """The exposition of all series, with what describes the metrics in front."""
    return "".join((*_descriptions(families), *lines(series.items()))).encode()


def lines(series: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line of exposition for each series and its value."""
    return (f"{text} {value}\n" for text, value in series)


def series_text(name: str, labels: Labels) -> str:
    """``name{label="value"}``; a name that is no classic one goes inside the braces, quoted."""
    pairs = [
        f"{key if _LEGACY_LABEL.match(key) else _quoted(key)}={_quoted(value)}"
        for key, value in sorted(labels.items())
        if value
    ]
    if not _LEGACY_METRIC.match(name):
        return "{" + ",".join((_quoted(name), *pairs)) + "}"
    return f"{name}{{{','.join(pairs)}}}"


def _quoted(text: str) -> str:
    """As a value of a label is written."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _descriptions(families: Iterable[Family]) -> Iterator[str]:
    for family in families:
        name = family.name
        shown = name if _LEGACY_METRIC.match(name) else _quoted(name)
        if family.help:
            text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
            yield f"# HELP {shown} {text}\n"
        yield f"# TYPE {shown} {family.type}\n"
