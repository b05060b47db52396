"""Text exposition and OpenMetrics, line by line, by the rules of the engine's import.

The engine stores what it reads and gives back no lines; who needs the parts of a line before they
are stored has them from here. A test compares what both take, and what both say of the rest.

Cost    One pass over each line; no line is searched twice from the same place.
Source  prometheus.io "Exposition formats"; OpenMetrics 1.0; cpp/wire/src/text_exposition.cc.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

METRIC_NAME: Final = "__name__"
LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z", re.ASCII)
LEGACY_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z", re.ASCII)
_TYPES: Final = frozenset(
    {
        "counter",
        "gauge",
        "gaugehistogram",
        "histogram",
        "info",
        "stateset",
        "summary",
        "unknown",
        "untyped",
    }
)
_BLANKS: Final = " \t"
_BLANK_RUN: Final = re.compile(r"[ \t]*+")
_WORD: Final = re.compile(r"[^ \t]*+")
_NAME: Final = re.compile(r"[^ \t{]*+")
_BARE: Final = re.compile(r'[^ \t{}=,"]*+')
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_IN_BRACES: Final = re.compile(r'\{(?:[^"}]|"(?:[^"\\]|\\.)*+")*+', re.DOTALL)
_ESCAPE: Final = re.compile(r'\\([n"\\])')
_FLOAT: Final = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\Z|[+-]?inf(?:inity)?\Z|nan\Z", re.ASCII | re.IGNORECASE
)
_INTEGER: Final = re.compile(r"-?\d{1,19}\Z", re.ASCII)
_SECONDS_MAX: Final = 9.2e15
_SHOWN_MAX: Final = 100


class LineRefusedError(Exception):
    """Why a line cannot be read."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a line of comment says of a metric; ``kind`` is TYPE, HELP or UNIT."""

    kind: str
    metric: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One line's sample. Its exemplar was looked at, and is not kept."""

    name: str
    labels: dict[str, str]
    value: float
    has_timestamp: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that breaks a rule."""

    reason: str


def read_lines(
    body: bytes, *, open_metrics: bool
) -> Iterator[tuple[int, Description | Sample | Refused]]:
    """What each line that says something says, with its number from 1."""
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    ended = False
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix(b"\r").lstrip(b" \t")
        if not line:
            continue
        if ended:
            yield number, Refused("a line stands after # EOF")
            return
        try:
            if not line.startswith(b"#"):
                yield number, _sample(_text(line), open_metrics=open_metrics)
                continue
            keyword, rest = _cut(line[1:].decode("utf-8", "surrogateescape"))
            ended = open_metrics and keyword == "EOF"
            if keyword in ("HELP", "TYPE", "UNIT"):
                description = _description(keyword, rest)
                if description is not None:
                    yield number, description
        except LineRefusedError as error:
            yield number, Refused(str(error))
    if open_metrics and not ended:
        yield len(lines) + 1, Refused("the text ends without # EOF: it may be cut off")


def quoted(text: str) -> str:
    """As a value of a label is written."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise LineRefusedError(f"the line is not UTF-8 at byte {error.start}") from None


def _description(keyword: str, rest: str) -> Description | None:
    if rest.startswith('"'):
        close = rest.find('"', 1)
        if close < 0:
            return None
        name, text = _unescaped(rest[1:close]), rest[close + 1 :]
    else:
        name, text = _cut(rest)
    text = text.lstrip(_BLANKS)
    if not name:
        return None
    try:
        (name + text).encode()
    except UnicodeEncodeError:
        raise LineRefusedError(f"# {keyword} is not UTF-8 text") from None
    if keyword == "HELP":
        text = _unescaped(text)
    elif keyword == "TYPE":
        text = text.rstrip(" ")
        if text not in _TYPES:
            raise LineRefusedError(f"{_shown(text)} is no metric type")
    return Description(keyword, name, text)


def _sample(line: str, *, open_metrics: bool) -> Sample:
    end = _series_end(line)
    rest, mark, exemplar = line[end:].partition("#") if open_metrics else (line[end:], "", "")
    value, has_timestamp = _value_and_time(rest, open_metrics=open_metrics)
    if mark:
        _check_exemplar(exemplar.lstrip(_BLANKS))
    name, labels = _series(line[:end])
    return Sample(name, labels, value, has_timestamp)


def _value_and_time(rest: str, *, open_metrics: bool) -> tuple[float, bool]:
    written, rest = _cut(rest)
    if not written:
        raise LineRefusedError("the value is missing")
    value = _number(written)
    if value is None:
        raise LineRefusedError(f"{_shown(written)} is no number")
    time, rest = _cut(rest)
    if time and not (_is_seconds(time) if open_metrics else _is_milliseconds(time)):
        raise LineRefusedError(f"{_shown(time)} is no timestamp")
    if rest:
        raise LineRefusedError(f"unexpected {_shown(rest)} after the timestamp")
    return value, bool(time)


def _check_exemplar(text: str) -> None:
    if not text.startswith("{"):
        raise LineRefusedError("an exemplar does not begin with its labels")
    try:
        end = _series_end(text)
        names = [name for name, _ in _pairs(text[:end])]
        if len(set(names)) != len(names) or "" in names:
            raise LineRefusedError("a label has no name, or occurs twice")
        _value_and_time(text[end:], open_metrics=True)
    except LineRefusedError as error:
        raise LineRefusedError(f"an exemplar: {error}") from None


def _series_end(line: str) -> int:
    """Where the name and the braces end."""
    position = _run(_NAME, line, 0)
    brace = _skip(line, position)
    if line[brace : brace + 1] != "{":
        if not position:
            raise LineRefusedError("a line begins without a metric name")
        return position
    end = _run(_IN_BRACES, line, brace)
    if line[end : end + 1] == '"':
        raise LineRefusedError("a quoted string is not closed")
    if line[end : end + 1] != "}":
        raise LineRefusedError("the braces are not closed")
    return end + 1


def _series(text: str) -> tuple[str, dict[str, str]]:
    pairs = list(_pairs(text))
    if any(not name for name, _ in pairs):
        raise LineRefusedError("empty label name")
    if not any(name == METRIC_NAME and value for name, value in pairs):
        raise LineRefusedError("the metric name is missing or empty")
    labels: dict[str, str] = {}
    for name, value in sorted(pairs):
        if name in labels:
            raise LineRefusedError(f"label name {_shown(name)} occurs twice")
        labels[name] = value
    return labels.pop(METRIC_NAME), labels


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """The name as a label of its own, and the labels. ``text`` ends where `_series_end` says."""
    at = count = 0
    if not text.startswith("{"):
        name, at = _bare(text, 0)
        if not LEGACY_METRIC.match(name):
            raise LineRefusedError(f"{_shown(name)} is no metric name")
        yield METRIC_NAME, name
        at, count = _skip(text, at), 1
        if at == len(text):
            return
    if text[at : at + 1] != "{":
        raise LineRefusedError(f"unexpected {_shown(text[at : at + 1])} after the metric name")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        is_quoted = text[at : at + 1] == '"'
        name, at = _string(text, at) if is_quoted else _bare(text, at)
        if not is_quoted and not LEGACY_LABEL.match(name):
            raise LineRefusedError(f"{_shown(name)} is no label name")
        at = _skip(text, at)
        if text[at : at + 1] == "=":
            at = _skip(text, at + 1)
            if text[at : at + 1] != '"':
                raise LineRefusedError(f"the value of label {_shown(name)} is not quoted")
            value, at = _string(text, at)
            yield name, value
        elif is_quoted:
            yield METRIC_NAME, name
        else:
            raise LineRefusedError(f"label {_shown(name)} has no value")
        at, count = _skip(text, at), count + 1
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "}":
            raise LineRefusedError(f"expected a comma or a closing brace after label {count}")


def _bare(text: str, at: int) -> tuple[str, int]:
    end = _run(_BARE, text, at)
    return text[at:end], end


def _string(text: str, at: int) -> tuple[str, int]:
    found = _QUOTED.match(text, at)
    if found is None:
        raise LineRefusedError("a quoted string is not closed")
    return _unescaped(found[1]), found.end()


def _skip(text: str, at: int) -> int:
    return _run(_BLANK_RUN, text, at)


def _run(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where that ends which begins at this place."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _cut(text: str) -> tuple[str, str]:
    """The first word, and what stands after it and its blanks."""
    begin = _skip(text, 0)
    end = _run(_WORD, text, begin)
    return text[begin:end], text[end:].lstrip(_BLANKS)


def _unescaped(text: str) -> str:
    # Any other escape stands for itself, as Prometheus reads it.
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _number(text: str) -> float | None:
    return float(text) if _FLOAT.match(text) else None


def _is_milliseconds(text: str) -> bool:
    return _INTEGER.match(text) is not None and -(1 << 63) <= int(text) < 1 << 63


def _is_seconds(text: str) -> bool:
    seconds = _number(text)
    return seconds is not None and math.isfinite(seconds) and abs(seconds) <= _SECONDS_MAX


def _shown(text: str) -> str:
    shown = quoted(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…")
    return shown.replace("\r", "\\r").replace("\t", "\\t")
