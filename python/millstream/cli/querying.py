"""``millstream query``."""

from __future__ import annotations

import csv
import enum
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from millstream._result import QueryResult
from millstream.cli.listing import output_console
from millstream.cli.options import (
    DataOption,
    ServerOption,
    TenantOption,
    TokenOption,
    duration,
    when,
)
from millstream.cli.source import now_ms, source_of
from millstream.times import format_time

_STEPS_DEFAULT: Final = 250


class Output(enum.StrEnum):
    """Forms in which an answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"


def query_command(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="A PromQL expression.")],
    time: Annotated[
        str | None,
        typer.Option(
            help="Evaluate at: RFC 3339, Unix seconds or relative (-1h).", show_default="now"
        ),
    ] = None,
    start: Annotated[str | None, typer.Option(help="Evaluate over a range from here.")] = None,
    end: Annotated[str | None, typer.Option(help="End of the range.", show_default="now")] = None,
    step: Annotated[
        str | None, typer.Option(help="Resolution of the range.", show_default="range / 250")
    ] = None,
    server: ServerOption = None,
    data: DataOption = None,
    token: TokenOption = None,
    tenant: TenantOption = None,
    output: Annotated[Output, typer.Option(help="What to print.")] = Output.TABLE,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the answer into this file (PNG, SVG or PDF).")
    ] = None,
) -> None:
    """Evaluate PromQL at one time or over a range.

    Example: millstream query 'rate(http_requests_total[5m])' --start -1h --server http://127.0.0.1:8080
    """
    now = now_ms()
    if start is None and (end is not None or step is not None):
        raise typer.BadParameter("--end and --step need --start")
    if start is not None and time is not None:
        raise typer.BadParameter("give either --time or --start")
    with source_of(server, data, token=token, tenant=tenant) as source:
        if start is None:
            result = source.query(expression, when(time, now) if time else now)
        else:
            first, last = when(start, now), when(end, now) if end else now
            if last < first:
                raise typer.BadParameter("--end is before --start")
            spacing = duration(step) if step else max(1000, (last - first) // _STEPS_DEFAULT)
            result = source.query_range(expression, first, last, spacing)
    if plot is not None:
        save_plot(result, plot, expression)
    for note in (*result.warnings, *result.infos):
        sys.stderr.write(f"note: {note}\n")
    _WRITERS[output](result)


def save_plot(result: QueryResult, path: Path, title: str) -> None:
    """Draw into a file; its suffix says the format."""
    try:
        result.plot(title=title).figure.savefig(path, dpi=120)
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f'error: {error.name} is not installed; `pip install "millstream[notebook]"` does it\n'
        )
        raise typer.Exit(1) from None
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: cannot draw into {path}: {error}\n")
        raise typer.Exit(1) from None


def _write_table(result: QueryResult) -> None:
    console = output_console()
    if result.type == "string":
        console.print(Text(result.text))
        return
    table = Table()
    table.add_column("series", overflow="fold")
    table.add_column("time")
    table.add_column("value", justify="right")
    for series, time_ms, value in result.rows():
        # Text, because names and values may look like markup.
        table.add_row(Text(series.name), Text(format_time(time_ms)), Text(value))
    console.print(table)


def _write_json(result: QueryResult) -> None:
    sys.stdout.buffer.write(result.to_json() + b"\n")
    sys.stdout.buffer.flush()


def _write_csv(result: QueryResult) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if result.type == "string":
        writer.writerows((["value"], [result.text]))
        return
    labels = sorted({name for series in result.series for name in series.labels})
    writer.writerow(
        ["time", *(f"label_{n}" if n in ("time", "value") else n for n in labels), "value"]
    )
    for series, time_ms, value in result.rows():
        cells = [series.labels.get(name, "") for name in labels]
        writer.writerow([format_time(time_ms), *cells, value])
    sys.stdout.flush()


def _write_arrow(result: QueryResult) -> None:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        sys.stderr.write(
            'error: pyarrow is not installed; `pip install "millstream[notebook]"` does it\n'
        )
        raise typer.Exit(1) from None
    table = result.to_arrow()
    with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as writer:
        writer.write_table(table)
    sys.stdout.buffer.flush()


_WRITERS: Final = {
    Output.TABLE: _write_table,
    Output.JSON: _write_json,
    Output.CSV: _write_csv,
    Output.ARROW: _write_arrow,
}
