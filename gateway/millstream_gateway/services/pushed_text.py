"""What a batch job pushes: exposition as text, taken apart and put together again with its labels.

A push is taken whole or not at all, so one bad line refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.openmetrics import parser as open_metrics_parser
from prometheus_client.parser import text_string_to_metric_families

from millstream.errors import InvalidArgumentError

PUSH_TIME: Final = "push_time_seconds"
FAILURE_TIME: Final = "push_failure_time_seconds"
_LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z", re.ASCII)
_LEGACY_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z", re.ASCII)
# What the parsers raise for text that is none; they were made for text that is good.
_PARSER_ERRORS: Final = (ValueError, IndexError, KeyError, TypeError, AttributeError)

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: what describes it, and its samples as (name, labels, value as text)."""

    name: str
    type: str
    help: str
    samples: tuple[tuple[str, Labels, str], ...]


def parse_families(body: bytes, *, open_metrics: bool) -> dict[str, Family]:
    """The metrics of a text by name; `InvalidArgumentError` says what is wrong with it."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"the text is not UTF-8 at byte {error.start}") from None
    parse = (
        open_metrics_parser.text_string_to_metric_families
        if open_metrics
        else text_string_to_metric_families
    )
    # Samples without a TYPE before them come as metrics of their own, also those of one name.
    described: dict[str, tuple[str, str]] = {}
    samples: dict[str, list[tuple[str, Labels, str]]] = {}
    try:
        # The parser looks for the end of every line; a last line without one would be dropped.
        found: Iterable[Metric] = parse(text if text.endswith("\n") else text + "\n")
        for metric in found:
            described.setdefault(metric.name, (metric.type, metric.documentation))
            samples.setdefault(metric.name, []).extend(map(_sample, metric.samples))
    except InvalidArgumentError:
        raise
    except _PARSER_ERRORS as error:
        raise InvalidArgumentError(f"the text is not understood: {error}") from None
    # The server says these itself.
    return {
        name: Family(name, *described[name], tuple(taken))
        for name, taken in samples.items()
        if name not in (PUSH_TIME, FAILURE_TIME)
    }


def _sample(sample: Any) -> tuple[str, Labels, str]:
    if sample.timestamp is not None:
        raise InvalidArgumentError(
            f"{sample.name} has a timestamp; what is pushed must have none, for it stays current "
            "until it is replaced"
        )
    return sample.name, dict(sample.labels), repr(float(sample.value))


def series_of(families: Iterable[Family], grouping: Labels) -> dict[str, str]:
    """Each series in the words of the exposition, with its value; the grouping labels win."""
    series: dict[str, str] = {}
    for family in families:
        for name, labels, value in family.samples:
            text = series_text(name, {**labels, **grouping})
            if text in series:
                raise InvalidArgumentError(f"the series {text} comes twice")
            series[text] = value
    return series


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


def _descriptions(families: Iterable[Family]) -> Iterator[str]:
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        name = family.name + suffix
        shown = name if _LEGACY_METRIC.match(name) else _quoted(name)
        if family.help:
            text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
            yield f"# HELP {shown} {text}\n"
        yield f"# TYPE {shown} {family.type}\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
