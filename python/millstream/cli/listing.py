"""Lists as commands print them: JSON for programs, a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

#: More than any line has: nothing is broken for whoever reads a pipe or a file line by line.
_UNBROKEN = 1 << 16

#: What a column's padding and rule take beside what it shows.
_RULE = 3

#: A column's title, and what a row has there.
Column = tuple[str, Callable[[Mapping[str, Any]], object]]


def fields(*names: str) -> tuple[Column, ...]:
    """Columns that each show a field, under its name; a list of words as these words."""
    return tuple((name, _field(name)) for name in names)


def print_list(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], output: Literal["table", "json"]
) -> None:
    """Print everything of the rows as JSON, or the columns of them as a table.

    The first column is what other commands ask for, so it is never cut.
    """
    if output == "json":
        sys.stdout.write(json.dumps(list(rows), indent=2) + "\n")
        return
    cells = [[str(value_of(row)) for _, value_of in columns] for row in rows]
    table = Table()
    (first, _), *others = columns
    widest = max((cell_len(row[0]) for row in cells), default=0)
    table.add_column(first, no_wrap=True, min_width=widest)
    for title, _ in others:
        table.add_column(title, overflow="fold", min_width=cell_len(title))
    for row in cells:
        table.add_row(*row)
    console = output_console()
    # A terminal too narrow for the first column and the titles breaks lines; columns squeezed to
    # nothing say nothing.
    least = max(widest, cell_len(first)) + sum(cell_len(title) for title, _ in others)
    console.width = max(console.width, least + _RULE * len(columns) + 1)
    console.print(table)


def output_console() -> Console:
    """Standard output for tables: as wide as the terminal, or as the table where there is none."""
    return Console(markup=False, width=None if sys.stdout.isatty() else _UNBROKEN)


def _field(name: str) -> Callable[[Mapping[str, Any]], object]:
    def value_of(row: Mapping[str, Any]) -> object:
        value = row[name]
        return " ".join(value) if isinstance(value, list) else value

    return value_of
