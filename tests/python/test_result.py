"""Answers in all their forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millstream._result import QueryResult
from millstream.errors import InvalidArgumentError

MATRIX = (
    b'{"resultType":"matrix","result":['
    b'{"metric":{"__name__":"m","host":"a"},"values":[[1,"1"],[2,"NaN"],[3.5,"+Inf"]]},'
    b'{"metric":{"__name__":"m","dc":"x"},"values":[[2,"5"]],'
    b'"histograms":[[3,{"count":"4","sum":"2"}]]}]}'
)
EMPTY = b'{"resultType":"vector","result":[]}'


@pytest.fixture
def matrix() -> QueryResult:
    return QueryResult.from_json(MATRIX, ["careful"], ["by the way"])


def test_a_matrix_keeps_times_values_and_histograms(matrix: QueryResult) -> None:
    assert [one.name for one in matrix.series] == ['m{host="a"}', 'm{dc="x"}']
    assert matrix.series[0].timestamps.tolist() == [1000, 2000, 3500]
    assert matrix.series[0].values[2] == float("inf")
    assert matrix.series[1].histograms == ((3000, {"count": "4", "sum": "2"}),)
    assert matrix.warnings == ("careful",)
    assert matrix.to_json() == MATRIX


def test_to_numpy_has_one_time_axis(matrix: QueryResult) -> None:
    times, values = matrix.to_numpy()
    assert times.tolist() == [1000, 2000, 3500]
    np.testing.assert_array_equal(values, [[1, np.nan, np.inf], [np.nan, 5, np.nan]])


def test_to_pandas_is_long_or_wide(matrix: QueryResult) -> None:
    long = matrix.to_pandas()
    assert list(long.columns) == ["__name__", "dc", "host", "time", "value"]
    assert len(long) == 4
    assert long["host"].isna().tolist() == [False, False, False, True]
    assert str(long["time"].dt.tz) == "UTC"
    wide = matrix.to_pandas(wide=True)
    assert list(wide.columns) == ['m{host="a"}', 'm{dc="x"}']
    assert wide.index[0].isoformat() == "1970-01-01T00:00:01+00:00"


def test_to_arrow_has_dictionary_labels(matrix: QueryResult) -> None:
    table = matrix.to_arrow()
    assert table.column_names == ["__name__", "dc", "host", "time", "value"]
    assert table["host"].to_pylist() == ["a", "a", "a", None]
    assert table["time"].cast("int64").to_pylist() == [1000, 2000, 3500, 2000]


def test_a_label_called_value_does_not_hide_the_values() -> None:
    data = b'{"resultType":"vector","result":[{"metric":{"value":"v","time":"t"},"value":[1,"2"]}]}'
    frame = QueryResult.from_json(data).to_pandas()
    assert frame.iloc[0][["label_time", "label_value", "value"]].tolist() == ["t", "v", 2.0]


@pytest.mark.parametrize("data", [EMPTY, b'{"resultType":"matrix","result":[]}'])
def test_an_empty_answer_has_every_form(data: bytes) -> None:
    result = QueryResult.from_json(data)
    times, values = result.to_numpy()
    assert (times.shape, values.shape) == ((0,), (0, 0))
    assert len(result.to_pandas()) == 0
    assert len(result.to_pandas(wide=True)) == 0
    assert result.to_arrow().num_rows == 0
    assert "<table>" in result._repr_html_()
    result.plot()


def test_strings_and_scalars() -> None:
    text = QueryResult.from_json(b'{"resultType":"string","result":[1,"<b>"]}')
    assert (text.type, text.text) == ("string", "<b>")
    assert text._repr_html_() == "<pre>&lt;b&gt;</pre>"
    scalar = QueryResult.from_json(b'{"resultType":"scalar","result":[1,"-Inf"]}')
    assert scalar.series[0].values.tolist() == [float("-inf")]


def test_notebook_tables_escape_everything() -> None:
    data = (
        b'{"resultType":"vector","result":[{"metric":{"x":"<script>alert(1)</script>"},'
        b'"value":[1,"2"]}]}'
    )
    page = QueryResult.from_json(data, ["<img src=x>"], ["<i>"])._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page


def test_long_tables_are_cut() -> None:
    values = ",".join(f'[{number},"1"]' for number in range(50))
    data = f'{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{values}]}}]}}'
    page = QueryResult.from_json(data.encode())._repr_html_()
    assert page.count("<tr><td>") == 20
    assert "…" in page


def test_plots_show_every_series(matrix: QueryResult, tmp_path: Path) -> None:
    axes = matrix.plot(title="cost in $ and $")
    assert [line.get_label() for line in axes.get_lines()] == ['m{host="a"}', 'm{dc="x"}']
    axes.figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_notebook_shows_a_plot_as_a_picture(matrix: QueryResult) -> None:
    assert matrix.plot()._repr_png_().startswith(b"\x89PNG")


def test_altair_draws_a_line_for_each_series(matrix: QueryResult) -> None:
    chart: dict[str, Any] = matrix.plot("altair").to_dict()
    assert chart["encoding"]["color"]["field"] == "series"
    (rows,) = chart["datasets"].values()
    assert len(rows) == 4


def test_another_library_is_refused(matrix: QueryResult) -> None:
    with pytest.raises(InvalidArgumentError, match="matplotlib"):
        matrix.plot("excel")
