"""Samples as lines: CSV, JSON lines and Parquet turned into text exposition, with line numbers.

A table has a row for each sample. The columns ``name``, ``timestamp`` (int milliseconds, or what
`millstream.times.parse_time_ms` understands) and ``value`` have fixed meanings; in CSV and Parquet
all other columns are labels, in JSON lines they stand in ``labels``. Empty labels are absent.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from millstream._columns import moment_ms
from millstream._result import format_value
from millstream.errors import InvalidArgumentError
from millstream.times import parse_time_ms

#: Names that text exposition takes without quotes.
_PLAIN_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z", re.ASCII)
_PLAIN_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,19}\Z", re.ASCII)
_LINE_BYTES_MAX: Final = 1 << 20


class ByteStream(Protocol):
    """What is asked of a file or a pipe."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


Row = tuple[int, str | InvalidArgumentError]


def sample_line(labels: Mapping[str, str], time_ms: int, value: str) -> str:
    """One sample as text exposition."""
    name = labels.get("__name__", "")
    parts = [
        f"{key if _PLAIN_LABEL.match(key) else quote(key)}={quote(text)}"
        for key, text in labels.items()
        if key != "__name__" and text
    ]
    if _PLAIN_METRIC.match(name):
        return f"{name}{{{','.join(parts)}}} {value} {time_ms}\n"
    return f"{{{','.join([quote(name), *parts])}}} {value} {time_ms}\n"


def quote(text: str) -> str:
    """A label value between quotes, escaped as exposition wants it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def read_csv(stream: ByteStream) -> Iterator[Row]:
    """Rows of a CSV file with a header as (line number, exposition line or what is wrong)."""
    lines = (line.decode("utf-8", "surrogateescape") for line in _bounded_lines(stream))
    reader = csv.DictReader(lines)
    missing = {"name", "timestamp", "value"} - set(reader.fieldnames or ())
    if missing:
        raise InvalidArgumentError(f"the header has no column {', '.join(sorted(missing))}")
    for row in reader:
        if None in row or None in row.values():
            yield reader.line_num, InvalidArgumentError("the row is not as long as the header")
            continue
        fixed = {key: row.pop(key) for key in ("name", "timestamp", "value")}
        yield reader.line_num, _row(fixed["name"], fixed["timestamp"], fixed["value"], row)


def read_jsonl(stream: ByteStream) -> Iterator[Row]:
    """Lines like ``{"name":"up","timestamp":0,"value":1,"labels":{"job":"x"}}``."""
    for number, line in enumerate(_bounded_lines(stream), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            yield number, InvalidArgumentError(f"not JSON: {error}")
            continue
        if not isinstance(item, dict):
            yield number, InvalidArgumentError("not a JSON object")
            continue
        labels = item.get("labels", {})
        if not isinstance(labels, dict):
            yield number, InvalidArgumentError("labels must be an object")
            continue
        yield number, _row(item.get("name"), item.get("timestamp"), item.get("value"), labels)


def read_parquet(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file; the number is the row's, from 1."""
    for number, row in enumerate(_parquet_rows(path), start=1):
        fixed = {key: row.pop(key) for key in ("name", "timestamp", "value")}
        labels = {key: "" if text is None else text for key, text in row.items()}
        yield number, _row(fixed["name"], fixed["timestamp"], fixed["value"], labels)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            missing = {"name", "timestamp", "value"} - set(file.schema_arrow.names)
            if missing:
                raise InvalidArgumentError(f"there is no column {', '.join(sorted(missing))}")
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise InvalidArgumentError(f"this is no whole Parquet file: {error}") from None


def _row(name: Any, time: Any, value: Any, labels: Mapping[str, Any]) -> str | InvalidArgumentError:
    try:
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError("name must be text")
        for key, text in labels.items():
            if not isinstance(text, str):
                raise InvalidArgumentError(f"label {key} must be text")
        line = sample_line({"__name__": name, **labels}, _time(time), _value(value))
        line.encode()
    except InvalidArgumentError as error:
        return error
    except UnicodeEncodeError:
        return InvalidArgumentError("not valid UTF-8")
    return line


def _time(time: Any) -> int:
    if isinstance(time, str):
        return int(time) if _INTEGER.match(time) else parse_time_ms(time)
    if isinstance(time, int) and not isinstance(time, bool):
        return time
    if isinstance(time, datetime):
        return moment_ms(time, 0)
    raise InvalidArgumentError("timestamp must be integer milliseconds or RFC 3339")


def _value(value: Any) -> str:
    if isinstance(value, str):
        try:
            return format_value(float(value))
        except ValueError:
            raise InvalidArgumentError(f"value {value!r} is not a number") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format_value(float(value))
    raise InvalidArgumentError("value must be a number")


def _bounded_lines(stream: ByteStream) -> Iterator[bytes]:
    while line := stream.readline(_LINE_BYTES_MAX + 1):
        if len(line) > _LINE_BYTES_MAX:
            raise InvalidArgumentError(f"a line is longer than {_LINE_BYTES_MAX} bytes")
        yield line
