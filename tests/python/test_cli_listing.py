"""Tables as commands print them: to a terminal of few columns, and to a pipe."""

from __future__ import annotations

import pytest

from millstream.cli.listing import fields, print_list

ROWS = [{"name": "n" * 60, "generation": 7, "committed": 12345}]
COLUMNS = fields("name", "generation", "committed")


def _lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tty: bool
) -> list[str]:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty)
    print_list(ROWS, COLUMNS, "table")
    return capsys.readouterr().out.splitlines()


def test_a_narrow_terminal_cuts_neither_the_first_column_nor_a_title(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _lines(capsys, monkeypatch, tty=True)
    assert any(ROWS[0]["name"] in line for line in lines)
    assert any("generation" in line and "committed" in line for line in lines)


def test_a_pipe_gets_one_line_for_each_row_however_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = [{"name": "a", "note": "w" * 500}, {"name": "b", "note": "-"}]
    monkeypatch.setenv("COLUMNS", "40")
    print_list(wide, fields("name", "note"), "table")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # three rules, the titles, two rows
    assert "w" * 500 in lines[3]
