"""Tables as lines: every bad row is named, every good one becomes the right line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("twice", ["name", "timestamp", "value", "host"])
def test_tables_with_a_column_twice_are_refused(tmp_path: Path, twice: str) -> None:
    names = ["name", "timestamp", "value", "host", twice]
    with pytest.raises(InvalidArgumentError, match=f"several columns {twice}"):
        list(read_csv(io.BytesIO(",".join(names).encode() + b"\n")))
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table([pa.array(["1"])] * 5, names=names), path)
    with pytest.raises(InvalidArgumentError, match=f"several columns {twice}"):
        list(read_parquet(path))


def test_csv_of_a_spreadsheet_is_read() -> None:
    text = "\ufeffname,timestamp,value,a\r\nup,1,1,\ufeffb\r\n"
    assert plain(list(read_csv(io.BytesIO(text.encode())))) == [(2, 'up{a="\ufeffb"} 1 1\n')]


def test_csv_with_an_endless_field_is_refused_by_line() -> None:
    text = b"name,timestamp,value\nup,1,1\nup,1," + b"1" * 200_000 + b"\n"
    with pytest.raises(InvalidArgumentError, match="line 3: "):
        list(read_csv(io.BytesIO(text)))


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
        b"[]\n" + b'{"name":"up","timestamp":1,"value":1' + b"0" * 400 + b"}\n" + b"[" * 100_000
    )
    assert plain(list(read_jsonl(io.BytesIO(text)))) == [
        (1, 'up{host="a"} 1.5 1000\n'),
        (3, "!not JSON: Expecting ',' delimiter: line 2 column 1 (char 13)"),
        (4, "!value must be a number"),
        (5, "!timestamp must be integer milliseconds or RFC 3339"),
        (6, "!label a must be text"),
        (7, "up{} -Inf 1\n"),
        (8, "!not a JSON object"),
        (9, "!value: int too large to convert to float"),
        (10, "!nested too deeply"),
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


def parquet(path: Path, **columns: Any) -> Path:
    written = {"name": ["up"], "timestamp": [1], "value": [1.0], **columns}
    pq.write_table(pa.table(written), path)
    return path


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (pa.array([-7]), "-7"),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array([True]), "True"),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array([7]).dictionary_encode(), "7"),
    ],
)
def test_labels_in_parquet_may_be_numbers_and_categories(
    tmp_path: Path, label: pa.Array, text: str
) -> None:
    path = parquet(tmp_path / "x", a=label)
    assert plain(list(read_parquet(path))) == [(1, f'up{{a="{text}"}} 1 1\n')]


@pytest.mark.parametrize(
    ("time", "milliseconds"),
    [
        (pa.array([-1], pa.timestamp("s")), -1000),
        (pa.array([-1], pa.timestamp("ms", "Asia/Kolkata")), -1),
        (pa.array([-1], pa.timestamp("us")), -1),
        (pa.array([-(2**62) - 1], pa.timestamp("ns", "UTC")), -4_611_686_018_428),
        (pa.array([2**50], pa.timestamp("ms")), 2**50),
        (pa.array(["1970-01-01T00:00:01Z"]), 1000),
    ],
)
def test_timestamps_in_parquet_have_any_unit(
    tmp_path: Path, time: pa.Array, milliseconds: int
) -> None:
    path = parquet(tmp_path / "x", timestamp=time)
    assert plain(list(read_parquet(path))) == [(1, f"up{{}} 1 {milliseconds}\n")]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("timestamp", pa.array([1.5]), "column timestamp holds double, not integer milliseconds"),
        ("value", pa.array([b"x"]), "column value holds binary, not numbers or text"),
        ("name", pa.array([1]), "column name holds int64, not text"),
        ("host", pa.array([1.5]), "column host holds double, not text, integers or booleans"),
        ("host", pa.array([["x"]]), "column host holds list"),
    ],
)
def test_columns_of_parquet_that_no_row_could_use_are_refused_at_once(
    tmp_path: Path, column: str, values: pa.Array, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        list(read_parquet(parquet(tmp_path / "x", **{column: values})))


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
