"""Tables as lines: every bad row is named, every good one becomes the right line."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.cli.tables import Row, read_csv, read_jsonl, read_parquet, sample_line
from millstream.errors import InvalidArgumentError
from millstream_gateway.backends.fake_wire import parse_exposition_line


def plain(rows: list[Row]) -> list[tuple[int, str]]:
    return [(number, line if isinstance(line, str) else f"!{line}") for number, line in rows]


def test_csv_rows_become_lines_with_their_numbers() -> None:
    text = (
        "name,timestamp,value,host,dc\n"
        "up,1000,1,a,\n"
        "up,soon,1,a,\n"
        "up,1970-01-01T00:00:02Z,NaN,a,x\n"
        "up,1000,one,a,\n"
        ",1000,1,a,\n"
        "up,1000\n"
        'up,1000,2.5,"a\nb",x\n'
    )
    assert plain(list(read_csv(io.BytesIO(text.encode())))) == [
        (2, 'up{host="a"} 1 1000\n'),
        (3, '!cannot parse "soon" to a valid timestamp'),
        (4, 'up{host="a",dc="x"} NaN 2000\n'),
        (5, "!value 'one' is not a number"),
        (6, "!name must be text"),
        (7, "!the row is not as long as the header"),
        (9, 'up{host="a\\nb",dc="x"} 2.5 1000\n'),
    ]


def test_csv_without_its_columns_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="no column timestamp, value"):
        list(read_csv(io.BytesIO(b"name\nup\n")))


def test_csv_that_is_not_utf8_is_named_by_row() -> None:
    found = plain(list(read_csv(io.BytesIO(b"name,timestamp,value,a\nup,1,1,\xff\nup,1,1,b\n"))))
    assert found == [(2, "!not valid UTF-8"), (3, 'up{a="b"} 1 1\n')]


def test_json_lines_become_lines_with_their_numbers() -> None:
    text = (
        b'{"name":"up","timestamp":1000,"value":1.5,"labels":{"host":"a"}}\n'
        b"\n"
        b'{"name":"up"\n'
        b'{"name":"up","timestamp":1000,"value":true}\n'
        b'{"name":"up","timestamp":1.5,"value":1}\n'
        b'{"name":"up","timestamp":1,"value":1,"labels":{"a":1}}\n'
        b'{"name":"up","timestamp":1,"value":"-Inf"}\n'
        b"[]\n"
    )
    assert plain(list(read_jsonl(io.BytesIO(text)))) == [
        (1, 'up{host="a"} 1.5 1000\n'),
        (3, "!not JSON: Expecting ',' delimiter: line 2 column 1 (char 13)"),
        (4, "!value must be a number"),
        (5, "!timestamp must be integer milliseconds or RFC 3339"),
        (6, "!label a must be text"),
        (7, "up{} -Inf 1\n"),
        (8, "!not a JSON object"),
    ]


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="longer than"):
        list(read_jsonl(io.BytesIO(b"x" * (2 << 20))))


def test_parquet_rows_become_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {
        "name": ["up", "up"],
        "timestamp": [1, 2],
        "value": [1.0, None],
        "host": ["a", None],
    }
    pq.write_table(pa.table(columns), path)
    assert plain(list(read_parquet(path))) == [
        (1, 'up{host="a"} 1 1\n'),
        (2, "!value must be a number"),
    ]


def test_names_outside_the_old_alphabet_are_quoted() -> None:
    line = sample_line({"__name__": "http.size", "my label": "x"}, 1, "2")
    assert line == '{"http.size","my label"="x"} 2 1\n'


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="}")))
def test_label_values_survive_the_text(value: str) -> None:
    line = sample_line({"__name__": "m", "a": value}, 1, "2")
    assert line.count("\n") == 1
    parsed = parse_exposition_line(line.rstrip("\n").replace("\\n", "\n"), 0)
    assert parsed is not None
    if "\\" not in value:
        assert parsed[0].get("a", "") == value
