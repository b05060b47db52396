"""Times and numbers of many shapes, as the int64 milliseconds and float64 of the core."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millstream.errors import InvalidArgumentError
from millstream.times import parse_duration_ms, parse_when_ms

#: A moment: milliseconds since the epoch, a datetime, or text (RFC 3339, Unix seconds, ``-1h``).
Moment = int | datetime | np.datetime64 | str
#: A length of time: milliseconds, a timedelta, or text (``15s``).
Span = int | timedelta | str


def moment_ms(moment: object, now_ms: int) -> int:
    """Milliseconds since the epoch. A datetime without a zone is UTC."""
    if isinstance(moment, str):
        return parse_when_ms(moment, now_ms)
    if isinstance(moment, np.datetime64):
        return int(moment.astype("datetime64[ms]").astype(np.int64))
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    if isinstance(moment, (int, np.integer)) and not isinstance(moment, bool):
        return int(moment)
    raise InvalidArgumentError(
        f"{moment!r} is not a time: give int milliseconds, a datetime or text"
    )


def span_ms(span: object) -> int:
    """Milliseconds."""
    if isinstance(span, str):
        return parse_duration_ms(span)
    if isinstance(span, timedelta):
        return span // timedelta(milliseconds=1)
    if isinstance(span, (int, np.integer)) and not isinstance(span, bool):
        return int(span)
    raise InvalidArgumentError(
        f"{span!r} is not a duration: give int milliseconds, a timedelta or text such as 15s"
    )


def times_ms(times: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
    """A column of times; datetime64 of any unit is rounded down to milliseconds."""
    column = np.asarray(times)
    if column.dtype.kind == "O":
        column = np.array([moment_ms(item, 0) for item in column], dtype=np.int64)
    if column.dtype.kind == "M":
        if np.isnat(column).any():
            raise InvalidArgumentError("a time is missing (NaT)")
        column = column.astype("datetime64[ms]").astype(np.int64)
    if column.size == 0:
        return np.empty(0, np.int64)
    if column.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"times must be int64 milliseconds or datetime64, not {column.dtype}"
        )
    return np.ascontiguousarray(column, dtype=np.int64)


def numbers(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """A column of float64; the bits of a NaN are kept."""
    column = np.asarray(values)
    if column.dtype.kind not in "fiub" and column.size:
        raise InvalidArgumentError(f"values must be numbers, not {column.dtype}")
    return np.ascontiguousarray(column, dtype=np.float64)
