"""Rows of samples on their way to a server: from columns to the bodies of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from millstream._columns import naming, numbers, references, text_of, times_ms
from millstream._frames import FrameRows
from millstream.errors import InvalidArgumentError, ResourceExhaustedError

#: A request before compression. Small enough to be repeated without regret.
MESSAGE_BYTES_MAX: Final = 2 << 20
_SERIES_MAX: Final = 10_000_000

Labels = dict[str, str]
_Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Body:
    """A remote write request: bytes, samples in it, and the series in it in their order."""

    content: bytes
    samples: int
    series: NDArray[np.uint64]


def encode(rows: FrameRows) -> list[Body]:
    """As many requests as the rows need. The work is the core's; no row is visited in Python."""
    from millstream._core import encode_remote_write

    which = np.ascontiguousarray(rows.which, dtype=np.uint64)
    encoded = encode_remote_write(
        rows.series, which, rows.timestamps, rows.values, message_bytes_max=MESSAGE_BYTES_MAX
    )
    return [Body(*one) for one in encoded]


def series_rows(
    name: str,
    labels: Mapping[str, str] | None,
    timestamps: Sequence[Any] | NDArray[Any],
    values: Sequence[float] | NDArray[Any],
) -> FrameRows:
    """Samples of one series."""
    with naming("labels"):
        pairs = dict(labels or {})
    if "__name__" in pairs:
        raise InvalidArgumentError("labels: the name of the metric is given twice")
    times, numbers_ = columns(timestamps, values)
    series = [{"__name__": text_of(name, "name"), **pairs}]
    return FrameRows(series, np.zeros(len(times), np.intp), times, numbers_)


def columns(
    timestamps: Sequence[Any] | NDArray[Any], values: Sequence[Any] | NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Two columns of one length."""
    with naming("timestamps"):
        times = times_ms(timestamps)
    with naming("values"):
        column = numbers(values)
    if times.shape != column.shape or times.ndim != 1:
        raise InvalidArgumentError(
            f"timestamps and values must be columns of one length, not of {times.shape} and "
            f"{column.shape}"
        )
    return times, column


def split(rows: FrameRows, length: int) -> list[FrameRows]:
    """Pieces of at most so many rows, in order."""
    if len(rows.values) <= length:
        return [rows]
    return [
        FrameRows(
            rows.series,
            rows.which[begin : begin + length],
            rows.timestamps[begin : begin + length],
            rows.values[begin : begin + length],
        )
        for begin in range(0, len(rows.values), length)
    ]


class SeriesTable:
    """Label sets by number; the numbers are references for `append`. Not for several threads."""

    def __init__(self) -> None:
        self._sets: list[Labels] = []
        self._number_of: dict[_Key, int] = {}

    def refs(self, sets: Sequence[Mapping[str, str]]) -> NDArray[np.uint64]:
        """The numbers of label sets; those that are new get one."""
        with naming("labels"):
            return np.array([self._number(dict(one)) for one in sets], np.uint64)

    def rows(
        self,
        refs: NDArray[np.uint64],
        timestamps: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> FrameRows:
        """Rows whose label sets are only those that occur in them."""
        with naming("refs"):
            column = references(refs)
        times, numbers_ = columns(timestamps, values)
        if column.shape != times.shape:
            raise InvalidArgumentError(
                f"refs and timestamps must be columns of one length, not of {column.shape} and "
                f"{times.shape}"
            )
        if len(column) and column.max() >= len(self._sets):
            raise InvalidArgumentError(f"refs: {column.max()} is no reference of this connection")
        found, which = np.unique(column, return_inverse=True)
        return FrameRows(
            [self._sets[number] for number in found.tolist()], which.reshape(-1), times, numbers_
        )

    def merged(self, pieces: Sequence[FrameRows]) -> FrameRows:
        """One piece of all, in which every label set occurs once."""
        if len(pieces) == 1:
            return pieces[0]
        which = [
            self.refs(piece.series)[piece.which].astype(np.intp, copy=False) for piece in pieces
        ]
        return FrameRows(
            self._sets,
            np.concatenate(which),
            np.concatenate([piece.timestamps for piece in pieces]),
            np.concatenate([piece.values for piece in pieces]),
        )

    def _number(self, labels: Labels) -> int:
        key = tuple(sorted(labels.items()))
        number = self._number_of.get(key)
        if number is None:
            number = len(self._sets)
            if number == _SERIES_MAX:
                raise ResourceExhaustedError(f"more than {_SERIES_MAX} series have references")
            self._number_of[key] = number
            self._sets.append(labels)
        return number
