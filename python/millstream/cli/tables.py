"""Samples as lines: CSV, JSON lines and Parquet turned into text exposition, with line numbers.

A table has a row for each sample. The columns ``name``, ``timestamp`` (int milliseconds, or what
`millstream.times.parse_time_ms` understands; in Parquet also timestamps) and ``value`` have fixed
meanings; in CSV and Parquet all other columns are labels, in JSON lines they stand in ``labels``.
Empty labels are absent. Labels in Parquet may be integers or booleans, too.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from millstream._columns import naming
from millstream._result import format_value
from millstream.errors import InvalidArgumentError
from millstream.times import parse_time_ms

if TYPE_CHECKING:
    import pyarrow as pa

#: Names that text exposition takes without quotes.
_PLAIN_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z", re.ASCII)
_PLAIN_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,19}\Z", re.ASCII)
_LINE_BYTES_MAX: Final = 1 << 20
_FIXED_COLUMNS: Final = frozenset({"name", "timestamp", "value"})


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
    try:
        _check_names(reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                yield reader.line_num, InvalidArgumentError("the row is not as long as the header")
                continue
            fixed = {key: row.pop(key) for key in _FIXED_COLUMNS}
            yield reader.line_num, _row(fixed["name"], fixed["timestamp"], fixed["value"], row)
    except csv.Error as error:
        raise InvalidArgumentError(f"line {reader.line_num + 1}: {error}") from None


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
        except RecursionError:
            yield number, InvalidArgumentError("nested too deeply")
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
        fixed = {key: row.pop(key) for key in _FIXED_COLUMNS}
        labels = {key: "" if text is None else str(text) for key, text in row.items()}
        yield number, _row(fixed["name"], fixed["timestamp"], fixed["value"], labels)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names)
            for field in file.schema_arrow:
                _check_type(field)
            for batch in file.iter_batches():
                place = batch.schema.get_field_index("timestamp")
                times = _integer_times(batch.column(place))
                yield from batch.set_column(place, "timestamp", times).to_pylist()
    except pa.ArrowException as error:
        raise InvalidArgumentError(f"this is no whole Parquet file: {error}") from None


def _check_names(names: Sequence[str]) -> None:
    if missing := _FIXED_COLUMNS - set(names):
        raise InvalidArgumentError(f"there is no column {', '.join(sorted(missing))}")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InvalidArgumentError(f"there are several columns {', '.join(repeated)}")


def _check_type(field: pa.Field) -> None:
    """Refuse a whole column at once, when no value in it could ever be taken."""
    from pyarrow import types

    text = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    wanted, checks = {
        "name": ("text", text),
        "timestamp": (
            "integer milliseconds, timestamps or text",
            (types.is_integer, types.is_timestamp, *text),
        ),
        "value": ("numbers or text", (types.is_integer, types.is_floating, *text)),
    }.get(field.name, ("text, integers or booleans", (types.is_integer, types.is_boolean, *text)))
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if not any(check(kind) for check in checks):
        raise InvalidArgumentError(f"column {field.name} holds {field.type}, not {wanted}")


def _integer_times(column: pa.Array) -> pa.Array:
    """Timestamps of any unit as integer milliseconds; they reach further than Python's datetime."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_timestamp(column.type):
        return column
    # Arrow's timestamps count from the epoch in UTC whatever zone they are shown in.
    whole = pc.floor_temporal(column.cast(pa.timestamp(column.type.unit)), unit="millisecond")
    return whole.cast(pa.timestamp("ms")).cast(pa.int64())


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
    raise InvalidArgumentError("timestamp must be integer milliseconds or RFC 3339")


def _value(value: Any) -> str:
    if isinstance(value, str):
        try:
            return format_value(float(value))
        except ValueError:
            raise InvalidArgumentError(f"value {value!r} is not a number") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with naming("value"):
            return format_value(float(value))
    raise InvalidArgumentError("value must be a number")


def _bounded_lines(stream: ByteStream) -> Iterator[bytes]:
    # Spreadsheets begin their files with a mark that they are UTF-8.
    mark = codecs.BOM_UTF8
    while line := stream.readline(_LINE_BYTES_MAX + 1):
        if len(line) > _LINE_BYTES_MAX:
            raise InvalidArgumentError(f"a line is longer than {_LINE_BYTES_MAX} bytes")
        yield line.removeprefix(mark)
        mark = b""
