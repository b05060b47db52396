"""Data frames as columns for the core: no row is ever visited in Python.

Label columns become integer codes; each distinct combination of codes is one series, looked up once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from millstream._columns import naming, numbers, times_ms
from millstream.errors import InvalidArgumentError

#: What pandas calls the content of columns of objects that are numbers.
_NUMBERS_OF_PANDAS: Final = {
    "boolean",
    "decimal",
    "empty",
    "floating",
    "integer",
    "mixed-integer-float",
}


@dataclass(frozen=True)
class FrameRows:
    """Rows of a frame: ``series[which[i]]`` at ``timestamps[i]`` has ``values[i]``."""

    series: list[dict[str, str]]
    which: NDArray[np.intp]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]


class _Columns(Protocol):
    """What is asked of a frame, whichever library it comes from."""

    def names(self) -> list[str]: ...

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """Codes into the texts; -1 where the text is missing."""

    def times(self, name: str) -> NDArray[np.int64]: ...

    def values(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """The numbers, and which are there at all; None when none can be missing."""


def frame_rows(
    frame: Any, *, metric: str, time: str, value: str, labels: Sequence[str]
) -> FrameRows:
    """Split a frame into series and rows.

    ``metric`` names the column of metric names; when there is no such column it is the metric name
    itself. Rows without a value are left out.
    """
    columns = _columns_of(frame)
    present = columns.names()
    for name in (time, value, *labels):
        if name not in present:
            raise InvalidArgumentError(f"the frame has no column {name!r}")
    for name in (metric, time, value, *labels):
        if present.count(name) > 1:
            raise InvalidArgumentError(f"the frame has several columns {name!r}")
    texts_of = {name: name for name in labels}
    if metric in present:
        texts_of = {"__name__": metric, **texts_of}
    keys = {}
    for label, name in texts_of.items():
        with naming(f"column {name!r}"):
            keys[label] = columns.codes(name)
    with naming(f"column {time!r}"):
        timestamps = columns.times(time)
    with naming(f"column {value!r}"):
        values, there = columns.values(value)
    combined, count = np.zeros(len(timestamps), np.int64), 1
    for codes, texts in keys.values():
        if count > np.iinfo(np.int64).max // (len(texts) + 1):
            # Rename the combinations that occur, so that the numbers stay small.
            _, combined = np.unique(combined, return_inverse=True)
            count = len(combined)
        combined = combined * (len(texts) + 1) + (codes + 1)
        count *= len(texts) + 1
    _, first, which = np.unique(combined, return_index=True, return_inverse=True)
    series = []
    for row in first:
        found = {
            name: texts[codes[row]] for name, (codes, texts) in keys.items() if codes[row] >= 0
        }
        series.append(found if metric in present else {"__name__": metric, **found})
    rows = FrameRows(series, which.reshape(-1), timestamps, values)
    if there is None or there.all():
        return rows
    return FrameRows(series, rows.which[there], timestamps[there], values[there])


def _columns_of(frame: Any) -> _Columns:
    module = type(frame).__module__.partition(".")[0]
    if module == "pandas":
        return _PandasColumns(frame)
    if hasattr(frame, "__arrow_c_stream__"):
        return _ArrowColumns(frame)
    raise InvalidArgumentError(
        f"{type(frame).__name__} is no frame: give pandas, polars or Arrow, or anything with "
        "__arrow_c_stream__"
    )


class _PandasColumns:
    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def names(self) -> list[str]:
        return [str(name) for name in self._frame.columns]

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        import pandas as pd

        codes, texts = pd.factorize(self._column(name).array)
        return np.asarray(codes, np.int64), [str(text) for text in texts]

    def times(self, name: str) -> NDArray[np.int64]:
        column = self._column(name)
        if column.isna().any():
            raise InvalidArgumentError("a time is missing")
        if getattr(column.dtype, "tz", None) is not None:
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return times_ms(column.to_numpy())

    def values(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        from pandas.api.types import infer_dtype, is_numeric_dtype

        column = self._column(name)
        if column.dtype.kind == "f" and isinstance(column.dtype, np.dtype):
            # A plain float column has no way to say "missing": NaN is a value in it.
            return numbers(column.to_numpy()), None
        if not is_numeric_dtype(column.dtype) and infer_dtype(column) not in _NUMBERS_OF_PANDAS:
            raise InvalidArgumentError(f"values must be numbers, not {column.dtype}")
        there = column.notna().to_numpy()
        return numbers(column.to_numpy(dtype=np.float64, na_value=np.nan)), there

    def _column(self, name: str) -> Any:
        # By place, because names need not be text in pandas.
        return self._frame.iloc[:, self.names().index(name)]


class _ArrowColumns:
    def __init__(self, frame: Any) -> None:
        import pyarrow as pa

        self._table = pa.table(frame)

    def names(self) -> list[str]:
        return list(self._table.column_names)

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self._table[name]
        if pa.types.is_dictionary(column.type):
            # Each chunk has a dictionary of its own, and Arrow knows no way to decode string views.
            texts = pa.large_string()
            column = pa.chunked_array(
                [chunk.dictionary.cast(texts).take(chunk.indices) for chunk in column.chunks], texts
            )
        encoded = column.combine_chunks().dictionary_encode()
        codes = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return codes, [str(text) for text in encoded.dictionary.to_pylist()]

    def times(self, name: str) -> NDArray[np.int64]:
        import pyarrow as pa

        column = self._table[name].combine_chunks()
        if column.null_count:
            raise InvalidArgumentError("a time is missing")
        if pa.types.is_timestamp(column.type):
            # Arrow's timestamps count from the epoch in UTC whatever zone they are shown in.
            column = column.cast(pa.timestamp(column.type.unit))
        return times_ms(column.to_numpy(zero_copy_only=False))

    def values(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        import pyarrow as pa

        column = self._table[name].combine_chunks()
        if not (
            pa.types.is_floating(column.type)
            or pa.types.is_integer(column.type)
            or pa.types.is_boolean(column.type)
            or pa.types.is_null(column.type)
        ):
            raise InvalidArgumentError(f"values must be numbers, not {column.type}")
        there = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), there
