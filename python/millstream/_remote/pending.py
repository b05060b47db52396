"""Rows that wait to be sent, and what became of those that were. Does no I/O."""

from __future__ import annotations

from collections import deque
from typing import Final

from millstream._columns import Span, count_of, span_ms, text_of
from millstream._database import WriteResult
from millstream._frames import FrameRows
from millstream._remote.rows import Body, SeriesTable, encode, split
from millstream.errors import (
    Code,
    InvalidArgumentError,
    MillstreamError,
    ResourceExhaustedError,
    UnavailableError,
    error_class,
)

_BATCH_MAX: Final = 1_000_000
_SAMPLES_MAX: Final = 1_000_000_000
_ERRORS_MAX: Final = 100


class Abandoned(Exception):  # noqa: N818
    """The buffer is closing and there is no more time to try again."""


class Pending:
    """A bounded queue of rows, taken in batches. Not for several threads.

    Invariants  What waits and what is being sent are together never more than ``samples_max``.
    """

    def __init__(
        self, *, batch_samples: int, batch_age: Span, samples_max: int, when_full: str
    ) -> None:
        if when_full not in ("block", "error"):
            raise InvalidArgumentError(f'when_full must be "block" or "error", not {when_full!r}')
        if count_of(batch_samples, "batch_samples", _BATCH_MAX) < 1:
            raise InvalidArgumentError("batch_samples must be 1 or more")
        if count_of(samples_max, "samples_max", _SAMPLES_MAX) < batch_samples:
            raise InvalidArgumentError("samples_max must hold a batch (batch_samples) or more")
        if span_ms(batch_age) < 0:
            raise InvalidArgumentError("batch_age must not be negative")
        self.blocks = when_full == "block"
        self.samples_max = samples_max
        self._batch_samples = batch_samples
        self._batch_age = span_ms(batch_age) / 1000
        self._queue: deque[tuple[float, FrameRows]] = deque()
        self._waiting = 0
        self._in_flight = 0
        self._added = 0
        self._done = 0

    @property
    def held(self) -> int:
        """Samples that wait or are being sent."""
        return self._waiting + self._in_flight

    @property
    def added(self) -> int:
        """Samples that ever came; `done` will reach it."""
        return self._added

    @property
    def done(self) -> int:
        """Samples whose fate is known."""
        return self._done

    def pieces(self, rows: FrameRows) -> list[FrameRows]:
        """The rows as pieces that each fit; or the error when they do not fit now and may not wait."""
        check_labels(rows)
        count = len(rows.values)
        if not self.blocks and not self.fits(count):
            raise ResourceExhaustedError(
                f"{self.held} samples wait to be sent and {count} more do not fit into samples_max "
                f"({self.samples_max}); the server is slower than the writers, or away"
            )
        return split(rows, self._batch_samples) if count else []

    def fits(self, count: int) -> bool:
        """Whether there is room for so many samples."""
        return self.held + count <= self.samples_max

    def add(self, rows: FrameRows, now: float) -> None:
        """Queue rows that fit."""
        self._queue.append((now, rows))
        self._waiting += len(rows.values)
        self._added += len(rows.values)

    def due_in(self, now: float) -> float | None:
        """Seconds until a batch is to be sent: its size or its age says so; None: nothing waits."""
        if not self._queue:
            return None
        if self._waiting >= self._batch_samples:
            return 0.0
        return max(0.0, self._queue[0][0] + self._batch_age - now)

    def take(self) -> list[FrameRows]:
        """The oldest rows, a batch of them."""
        pieces: list[FrameRows] = []
        count = 0
        while self._queue:
            size = len(self._queue[0][1].values)
            if pieces and count + size > self._batch_samples:
                break
            pieces.append(self._queue.popleft()[1])
            count += size
        self._waiting -= count
        self._in_flight += count
        return pieces

    def finish(self, pieces: list[FrameRows]) -> None:
        """The fate of these is known."""
        count = sum(len(piece.values) for piece in pieces)
        self._in_flight -= count
        self._done += count


class Totals:
    """What became of the samples that left a buffer. Not for several threads."""

    def __init__(self) -> None:
        self.stored = 0
        self.rejected = 0
        self.errors: list[tuple[str, str]] = []
        self._to_tell: MillstreamError | None = None

    def count(self, result: WriteResult) -> None:
        """An answer of the server."""
        self.stored += result.samples
        self.rejected += result.rejected
        for _, code, reason in result.errors:
            self._keep(error_class(Code[code])(reason))

    def refuse(self, samples: int, error: MillstreamError) -> None:
        """A whole request that was refused."""
        self.rejected += samples
        self._keep(error)

    def raise_error(self) -> None:
        """Raise the first error since the last call, if there was any."""
        error, self._to_tell = self._to_tell, None
        if error is not None:
            raise type(error)(
                f"{self.stored} samples were stored and {self.rejected} refused so far; the first "
                f"error: {error.message}"
            )

    def merge(self, other: Totals) -> None:
        """Count what another one counted."""
        self.stored += other.stored
        self.rejected += other.rejected
        self.errors = [*self.errors, *other.errors][:_ERRORS_MAX]
        self._to_tell = self._to_tell or other._to_tell

    def _keep(self, error: MillstreamError) -> None:
        if len(self.errors) < _ERRORS_MAX:
            self.errors.append((error.code.name, error.message))
        self._to_tell = self._to_tell or error


def bodies_of(pieces: list[FrameRows], totals: Totals) -> list[tuple[Body, FrameRows]]:
    """Requests for all pieces; what cannot be encoded is counted as refused, and harms no other."""
    merged = SeriesTable().merged(pieces)
    try:
        return [(body, merged) for body in encode(merged)]
    except MillstreamError as error:
        if len(pieces) == 1:
            totals.refuse(len(pieces[0].values), error)
            return []
    return [pair for piece in pieces for pair in bodies_of([piece], totals)]


def check_labels(rows: FrameRows) -> None:
    """Refuse at once what could only be found when it is sent, among rows of others."""
    for labels in rows.series:
        for name, value in labels.items():
            text_of(name, "a label name")
            text_of(value, "a label value")


def not_sent(pending: Pending, url: str) -> UnavailableError:
    """The error for what a buffer still holds when its time is up."""
    return UnavailableError(f"{pending.held} samples were not sent in time: {url} does not answer")
