"""Times and numbers of many shapes, as the int64 milliseconds and float64 of the core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from millstream.errors import InvalidArgumentError
from millstream.times import parse_duration_ms, parse_when_ms

#: A moment: milliseconds since the epoch, a datetime, or text (RFC 3339, Unix seconds, ``-1h``).
Moment = int | datetime | np.datetime64 | str
#: A length of time: milliseconds, a timedelta, or text (``15s``).
Span = int | timedelta | str

_INT64: Final = np.iinfo(np.int64)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Name the argument or column that is being converted in whatever goes wrong with it.

    NumPy, pandas and Arrow raise errors of many classes for values that cannot be converted.
    """
    try:
        yield
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{what}: {error}") from None
    except (ArithmeticError, NotImplementedError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{what}: {error}") from error


def text_of(value: object, what: str) -> str:
    """The argument, which must be a str."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what} must be a str, not {type(value).__name__}")
    with naming(what):
        value.encode()
    return value


def count_of(value: object, what: str, most: int = int(_INT64.max)) -> int:
    """The argument, which must be an int from 0 to ``most``."""
    if not _is_int(value) or not 0 <= value <= most:
        raise InvalidArgumentError(f"{what} must be an int from 0 to {most}, not {value!r}")
    return int(value)


def moment_ms(moment: object, now_ms: int) -> int:
    """Milliseconds since the epoch. A datetime without a zone is UTC."""
    if isinstance(moment, str):
        return parse_when_ms(moment, now_ms)
    if isinstance(moment, np.datetime64):
        return int(times_ms(np.array([moment]))[0])
    if isinstance(moment, datetime):
        # pandas has a datetime that is none.
        if moment != moment:  # noqa: PLR0124
            raise InvalidArgumentError("a time is missing (NaT)")
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    if _is_int(moment):
        return _int64(moment)
    raise InvalidArgumentError(
        f"{moment!r} is not a time: give int milliseconds, a datetime or text"
    )


def span_ms(span: object) -> int:
    """Milliseconds."""
    if isinstance(span, str):
        return parse_duration_ms(span)
    if isinstance(span, timedelta):
        return span // timedelta(milliseconds=1)
    if _is_int(span):
        return _int64(span)
    raise InvalidArgumentError(
        f"{span!r} is not a duration: give int milliseconds, a timedelta or text such as 15s"
    )


def times_ms(times: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
    """A column of times; datetime64 of any unit is rounded down to milliseconds."""
    column = np.asarray(times)
    if column.dtype.kind == "O":
        column = np.array([moment_ms(item, 0) for item in column], dtype=np.int64)
    if column.dtype.kind == "M":
        column = _datetimes_ms(column)
    if column.size == 0:
        return np.empty(0, np.int64)
    if column.dtype.kind not in "iu":
        raise InvalidArgumentError(
            f"times must be int64 milliseconds or datetime64, not {column.dtype}"
        )
    if column.dtype.kind == "u":
        _int64(column.max())
    return np.ascontiguousarray(column, dtype=np.int64)


def numbers(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """A column of float64; the bits of a NaN are kept."""
    column = np.asarray(values)
    if column.dtype.kind not in "fiub" and column.size:
        raise InvalidArgumentError(f"values must be numbers, not {column.dtype}")
    return np.ascontiguousarray(column, dtype=np.float64)


def references(refs: Sequence[Any] | NDArray[Any]) -> NDArray[np.uint64]:
    """A column of series references."""
    column = np.asarray(refs)
    if column.size and (column.dtype.kind not in "iu" or column.min() < 0):
        raise InvalidArgumentError("references must be whole numbers as series_refs gives them")
    return np.ascontiguousarray(column, dtype=np.uint64)


def _datetimes_ms(column: NDArray[Any]) -> NDArray[np.int64]:
    if np.isnat(column).any():
        raise InvalidArgumentError("a time is missing (NaT)")
    milliseconds = column.astype("datetime64[ms]")
    # NumPy overflows without a word; then the way back ends elsewhere.
    back = milliseconds.astype(column.dtype)
    coarser = np.promote_types(column.dtype, milliseconds.dtype) != column.dtype
    if (back != column if coarser else back > column).any():
        raise InvalidArgumentError("a time does not fit into int64 milliseconds")
    return milliseconds.astype(np.int64)


def _is_int(value: object) -> TypeGuard[int | np.integer[Any]]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _int64(value: int | np.integer[Any]) -> int:
    if not _INT64.min <= value <= _INT64.max:
        raise InvalidArgumentError(f"{value} does not fit into int64 milliseconds")
    return int(value)
