"""Frames of three libraries become the same series and rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from millstream._columns import numbers, references, span_ms, times_ms
from millstream._frames import FrameRows, frame_rows
from millstream.errors import InvalidArgumentError

MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "polars": lambda columns: pl.DataFrame(columns, strict=False),
    "arrow": pa.table,
}


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], Any]:
    return MAKERS[request.param]


def rows(frame: FrameRows) -> list[tuple[dict[str, str], int, float]]:
    return [
        (frame.series[which], int(time), float(value))
        for which, time, value in zip(frame.which, frame.timestamps, frame.values, strict=True)
    ]


def split(frame: Any, *labels: str, metric: str = "metric") -> FrameRows:
    return frame_rows(frame, metric=metric, time="time", value="value", labels=labels)


def test_rows_are_grouped_by_metric_and_labels(make: Callable[[dict[str, Any]], Any]) -> None:
    frame = make(
        {
            "metric": ["cpu", "mem", "cpu", "cpu"],
            "time": [1, 2, 3, 4],
            "value": [0.5, 1.5, 2.5, 3.5],
            "host": ["a", "a", "b", "a"],
            "ignored": ["x", "y", "z", "w"],
        }
    )
    found = split(frame, "host")
    assert len(found.series) == 3
    assert rows(found) == [
        ({"__name__": "cpu", "host": "a"}, 1, 0.5),
        ({"__name__": "mem", "host": "a"}, 2, 1.5),
        ({"__name__": "cpu", "host": "b"}, 3, 2.5),
        ({"__name__": "cpu", "host": "a"}, 4, 3.5),
    ]


def test_the_metric_may_be_a_name_and_not_a_column(make: Callable[[dict[str, Any]], Any]) -> None:
    found = split(make({"time": [1, 2], "value": [1, 2]}), metric="up")
    assert rows(found) == [({"__name__": "up"}, 1, 1.0), ({"__name__": "up"}, 2, 2.0)]


def test_a_missing_label_is_absent(make: Callable[[dict[str, Any]], Any]) -> None:
    found = split(make({"time": [1, 2], "value": [1.0, 2.0], "dc": ["x", None]}), "dc", metric="m")
    assert [labels for labels, _, _ in rows(found)] == [
        {"__name__": "m", "dc": "x"},
        {"__name__": "m"},
    ]


def test_nan_is_a_value() -> None:
    for maker in MAKERS.values():
        frame = maker({"time": [1, 2], "value": np.array([np.nan, 1.0])})
        assert np.isnan(split(frame, metric="m").values[0])


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"time": [1, 2, 3], "value": [1, None, 3]}),
        pa.table({"time": [1, 2, 3], "value": [1, None, 3]}),
        pd.DataFrame({"time": [1, 2, 3], "value": pd.array([1, None, 3], dtype="Int64")}),
    ],
)
def test_rows_without_a_value_are_left_out(frame: Any) -> None:
    assert split(frame, metric="m").timestamps.tolist() == [1, 3]


def test_times_of_every_kind_are_milliseconds(make: Callable[[dict[str, Any]], Any]) -> None:
    moments = [datetime(2024, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, tzinfo=UTC)]
    frame = make({"time": moments, "value": [1.0, 2.0]})
    assert split(frame, metric="m").timestamps.tolist() == [1_704_067_200_000, -3_600_000]


def test_zoned_times_are_converted() -> None:
    times = pd.to_datetime([0], unit="ms", utc=True).tz_convert("Asia/Kolkata")
    frame = pd.DataFrame({"time": times, "value": [1.0]})
    assert split(frame, metric="m").timestamps.tolist() == [0]
    assert split(pl.from_pandas(frame), metric="m").timestamps.tolist() == [0]


def test_many_label_columns_do_not_overflow_their_codes() -> None:
    size = 64
    columns: dict[str, Any] = {"time": np.arange(size), "value": np.ones(size)}
    labels = [f"l{number}" for number in range(40)]
    for number, name in enumerate(labels):
        columns[name] = [f"{(row * (number + 1)) % size}" for row in range(size)]
    frame = pd.DataFrame(columns)
    found = split(frame, *labels, metric="m")
    assert len(found.series) == size
    for row, (series, _, _) in enumerate(rows(found)):
        assert all(series[name] == columns[name][row] for name in labels)


def test_an_empty_frame_has_no_rows(make: Callable[[dict[str, Any]], Any]) -> None:
    frame = make({"time": np.array([], np.int64), "value": np.array([])})
    assert rows(split(frame, metric="m")) == []


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"value": [1.0]}, "no column 'time'"),
        ({"time": [1.5], "value": [1.0]}, "int64 milliseconds"),
        ({"time": ["soon"], "value": [1.0]}, "column 'time': cannot parse"),
        ({"time": [None], "value": [1.0]}, "column 'time'"),
        (
            {"time": np.array([2**63], np.uint64), "value": [1.0]},
            "column 'time': 9223372036854775808",
        ),
        ({"time": [1], "value": ["x"]}, "column 'value': values must be numbers"),
        ({"time": [1], "value": ["1"]}, "column 'value': values must be numbers"),
    ],
)
def test_what_is_wrong_with_a_frame_is_named(
    make: Callable[[dict[str, Any]], Any], columns: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=word):
        split(make(columns), metric="m")


@pytest.mark.parametrize("name", ["metric", "time", "value", "host"])
@pytest.mark.parametrize("library", ["pandas", "arrow"])
def test_a_column_that_exists_twice_is_refused(library: str, name: str) -> None:
    names = ["metric", "time", "value", "host", name]
    columns: list[list[Any]] = [["m"], [1], [1.0], ["a"], ["b"]]
    frame: Any = pa.table([pa.array(column) for column in columns], names=names)
    if library == "pandas":
        frame = pd.DataFrame([[column[0] for column in columns]], columns=names)
    with pytest.raises(InvalidArgumentError, match=f"several columns '{name}'"):
        split(frame, "host")


def test_names_of_columns_need_not_be_text_in_pandas() -> None:
    frame = pd.DataFrame({"time": [1], "value": [2.0], 7: ["x"]})
    assert rows(split(frame, "7", metric="m")) == [({"__name__": "m", "7": "x"}, 1, 2.0)]


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(["b", "a"])])
@pytest.mark.parametrize("rechunk", [False, True])
def test_categories_of_polars_are_labels_and_metrics(kind: Any, rechunk: bool) -> None:
    parts = [
        pl.DataFrame({"metric": ["a"], "time": [time], "value": [1.0], "host": [host]})
        for time, host in ((1, "a"), (2, "b"), (3, None))
    ]
    frame = pl.concat(parts, rechunk=rechunk).with_columns(
        pl.col("metric").cast(kind), pl.col("host").cast(kind)
    )
    assert rows(split(frame, "host")) == [
        ({"__name__": "a", "host": "a"}, 1, 1.0),
        ({"__name__": "a", "host": "b"}, 2, 1.0),
        ({"__name__": "a"}, 3, 1.0),
    ]


def test_dictionaries_of_chunks_may_differ() -> None:
    chunks = [pa.array([text]).dictionary_encode() for text in ("a", "b", "a")]
    frame = pa.table({"time": [1, 2, 3], "value": [1.0] * 3, "host": pa.chunked_array(chunks)})
    assert [labels["host"] for labels, _, _ in rows(split(frame, "host", metric="m"))] == list(
        "aba"
    )


def test_whole_numbers_too_large_for_a_float_are_rounded(
    make: Callable[[dict[str, Any]], Any],
) -> None:
    found = split(make({"time": [1], "value": np.array([2**60 + 1])}), metric="m")
    assert found.values.tolist() == [2.0**60]


def test_numbers_among_objects_are_values_in_pandas() -> None:
    frame = pd.DataFrame({"time": [1, 2], "value": pd.Series([1, None], dtype=object)})
    assert rows(split(frame, metric="m")) == [({"__name__": "m"}, 1, 1.0)]
    frame = pd.DataFrame({"time": [1], "value": pd.Series([10**400], dtype=object)})
    with pytest.raises(InvalidArgumentError, match="column 'value': "):
        split(frame, metric="m")


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="no frame"):
        split([1, 2], metric="m")


def test_columns_of_other_kinds_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="NaT"):
        times_ms(np.array(["NaT"], "datetime64[ns]"))
    with pytest.raises(InvalidArgumentError, match="NaT"):
        times_ms([pd.NaT])
    with pytest.raises(InvalidArgumentError, match="must be numbers"):
        numbers(["1"])
    with pytest.raises(InvalidArgumentError, match="whole numbers"):
        references([1.9])
    with pytest.raises(InvalidArgumentError, match="whole numbers"):
        references([-1])
    with pytest.raises(InvalidArgumentError, match="not a duration"):
        span_ms(1.5)


@pytest.mark.parametrize(
    "times",
    [
        np.array([2**63], np.uint64),
        [2**63],
        [-(2**63) - 1],
        np.array([2**62], "datetime64[s]"),
        np.array([2**40], "datetime64[D]"),
    ],
)
def test_times_that_do_not_fit_are_refused_and_never_wrap_around(times: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="does not fit into int64"):
        times_ms(times)


def test_times_at_both_ends_fit() -> None:
    ends = [-(2**63), 2**63 - 1]
    assert times_ms(ends).tolist() == ends
    assert times_ms(np.array(ends[1:], np.uint64)).tolist() == ends[1:]
    # The lowest number is NaT in datetime64.
    ends[0] += 1
    assert times_ms(np.array(ends, "datetime64[ms]")).tolist() == ends
    nanoseconds = np.array([-(2**63) + 1_000_000, 2**63 - 1], "datetime64[ns]")
    assert times_ms(nanoseconds).tolist() == [-9_223_372_036_854, 9_223_372_036_854]
