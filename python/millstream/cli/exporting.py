"""``millstream export``."""

from __future__ import annotations

import csv
import enum
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from millstream._result import QueryResult, format_value
from millstream.cli.options import (
    DataOption,
    ServerOption,
    TenantOption,
    TokenOption,
    duration,
    when,
)
from millstream.cli.source import Source, now_ms, source_of
from millstream.cli.tables import sample_line
from millstream.errors import InvalidArgumentError

_WINDOWS_MAX: Final = 1_000_000


class ExportFormat(enum.StrEnum):
    """Formats that can be written."""

    PROMETHEUS = "prometheus"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def export_command(
    selector: Annotated[str, typer.Argument(help='A series selector, such as up{job="x"}.')],
    start: Annotated[str, typer.Option(help="Export samples after this time.")] = "-15d",
    end: Annotated[str, typer.Option(help="Last time to export.")] = "now",
    window: Annotated[
        str, typer.Option(help="Time that is read at once; shorter takes less memory.")
    ] = "1d",
    format: Annotated[  # noqa: A002
        ExportFormat, typer.Option("--format", help="Format to write.")
    ] = ExportFormat.PROMETHEUS,
    output: Annotated[Path, typer.Option(help="File to write; - is standard output.")] = Path("-"),
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
    tenant: TenantOption = None,
) -> None:
    """Write the raw samples of series; `millstream import` reads them back.

    Native histograms and staleness markers are not exported. Parquet keeps every value to the bit;
    the other formats have one word for all bit patterns that are not a number.

    Example: millstream export 'up' --start -1h --format csv --output up.csv --data ./data
    """
    now = now_ms()
    first, last, length = when(start, now), when(end, now), duration(window)
    if last < first:
        raise typer.BadParameter("--end is before --start")
    if (last - first) // length > _WINDOWS_MAX:
        raise typer.BadParameter("the range holds too many windows; make --window longer")
    with source_of(server, data, token=token, tenant=tenant) as source:
        answers = _windows(source, selector, first, last, length)
        if format is ExportFormat.PARQUET:
            samples = _write_parquet(answers, output)
        else:
            with _text_file(output) as file:
                samples = _TEXT_WRITERS[format](answers, file)
    sys.stderr.write(f"{samples} samples exported\n")


def _windows(
    source: Source, selector: str, first: int, last: int, length: int
) -> Iterator[QueryResult]:
    """Raw samples in (first, last], one window after the other.

    A range selector as an instant query answers the stored samples themselves, and leaves out the
    one at its very beginning, so windows that touch share nothing.
    """
    begin = first
    while begin < last:
        end = min(begin + length, last)
        answer = source.query(f"{selector}[{end - begin}ms]", end)
        if answer.type != "matrix":
            raise InvalidArgumentError(f"{selector} is not a series selector")
        yield answer
        begin = end


def _write_prometheus(answers: Iterator[QueryResult], file: TextIO) -> int:
    samples = 0
    for answer in answers:
        for series in answer.series:
            pairs = zip(series.timestamps.tolist(), series.values.tolist(), strict=True)
            for time_ms, value in pairs:
                file.write(sample_line(series.labels, time_ms, format_value(value)))
                samples += 1
    return samples


def _write_jsonl(answers: Iterator[QueryResult], file: TextIO) -> int:
    samples = 0
    for answer in answers:
        for series in answer.series:
            labels = {key: text for key, text in series.labels.items() if key != "__name__"}
            pairs = zip(series.timestamps.tolist(), series.values.tolist(), strict=True)
            for time_ms, value in pairs:
                # NaN and infinities have no JSON number; text holds every value.
                number: float | str = value if abs(value) < float("inf") else format_value(value)
                item = {
                    "name": series.labels.get("__name__", ""),
                    "labels": labels,
                    "timestamp": time_ms,
                    "value": number,
                }
                file.write(json.dumps(item, ensure_ascii=False) + "\n")
                samples += 1
    return samples


def _write_csv(answers: Iterator[QueryResult], file: TextIO) -> int:
    # The header needs the names of all labels, so the answers are kept.
    kept = list(answers)
    labels = _label_names(kept)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", *labels, "timestamp", "value"])
    samples = 0
    for answer in kept:
        for series in answer.series:
            cells = [series.labels.get(name, "") for name in ("__name__", *labels)]
            pairs = zip(series.timestamps.tolist(), series.values.tolist(), strict=True)
            for time_ms, value in pairs:
                writer.writerow([*cells, time_ms, format_value(value)])
                samples += 1
    return samples


def _write_parquet(answers: Iterator[QueryResult], output: Path) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        sys.stderr.write(
            'error: pyarrow is not installed; `pip install "millstream[notebook]"` does it\n'
        )
        raise typer.Exit(1) from None
    if str(output) == "-":
        raise typer.BadParameter("Parquet needs --output FILE")
    kept = list(answers)
    labels = _label_names(kept)
    text = pa.dictionary(pa.int32(), pa.string())
    columns: list[tuple[str, Any]] = [(name, text) for name in ("name", *labels)]
    schema = pa.schema([*columns, ("timestamp", pa.int64()), ("value", pa.float64())])
    samples = 0
    with pq.ParquetWriter(output, schema) as writer:
        for answer in kept:
            for series in answer.series:
                size = len(series.timestamps)
                cells = [
                    pa.array([series.labels.get(name)] * size, pa.string()).dictionary_encode()
                    for name in ("__name__", *labels)
                ]
                arrays = [*cells, pa.array(series.timestamps), pa.array(series.values)]
                writer.write_table(pa.table(arrays, schema=schema))
                samples += size
    return samples


def _label_names(answers: list[QueryResult]) -> list[str]:
    names = {name for answer in answers for series in answer.series for name in series.labels}
    taken = names & {"name", "timestamp", "value"}
    if taken:
        raise InvalidArgumentError(
            f"the label {sorted(taken)[0]} has the name of a column; export to prometheus or jsonl"
        )
    return sorted(names - {"__name__"})


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file


_TEXT_WRITERS: Final = {
    ExportFormat.PROMETHEUS: _write_prometheus,
    ExportFormat.JSONL: _write_jsonl,
    ExportFormat.CSV: _write_csv,
}
