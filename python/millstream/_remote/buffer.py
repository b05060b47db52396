"""Writes that are collected and sent from the background."""

from __future__ import annotations

import atexit
import threading
import time as clock
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from millstream._columns import Span, span_ms
from millstream._forks import Inherited, watch
from millstream._frames import FrameRows, frame_rows
from millstream._remote import calls
from millstream._remote.pending import Abandoned, Pending, Totals, bodies_of, not_sent
from millstream._remote.rows import series_rows
from millstream.errors import FailedPreconditionError, MillstreamError

if TYPE_CHECKING:
    from millstream._remote.client import Client


class Buffer:
    """Collects writes and sends them in batches from a thread of its own.

    A batch leaves when it has ``batch_samples`` samples or its oldest is ``batch_age`` old. Waiting
    and under way are at most ``samples_max`` samples: then a write blocks until there is room, or,
    with ``when_full="error"``, raises `ResourceExhaustedError`. A server that is away or busy is
    tried again until the buffer is closed. What a server refuses for good is counted
    (``samples_rejected``, ``errors``) and raised by the next `flush` or `close`.

    Threads: any thread may call any method.

    >>> import millstream
    >>> with millstream.connect("http://127.0.0.1:8080") as db, db.buffered() as buffer:
    ...     buffer.samples_waiting
    0
    """

    def __init__(
        self,
        client: Client,
        *,
        batch_samples: int,
        batch_age: Span,
        samples_max: int,
        when_full: str,
    ) -> None:
        self._client = client
        self._pending = Pending(
            batch_samples=batch_samples,
            batch_age=batch_age,
            samples_max=samples_max,
            when_full=when_full,
        )
        self._totals = Totals()
        self._changed = threading.Condition()
        watch(self, "_changed")
        self._flush_to = 0
        self._is_closing = False
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._work, name="millstream-buffer", daemon=True)
        self._thread.start()
        # A program that ends without closing still sends what it wrote.
        atexit.register(self.close)

    @property
    def samples_waiting(self) -> int:
        """Samples that are not with the server yet."""
        with self._changed:
            return self._pending.held

    @property
    def samples_stored(self) -> int:
        """Samples that the server stored."""
        with self._changed:
            return self._totals.stored

    @property
    def samples_rejected(self) -> int:
        """Samples, or series of them, that the server refused."""
        with self._changed:
            return self._totals.rejected

    @property
    def errors(self) -> tuple[tuple[str, str], ...]:
        """(code name, reason) of the first refusals."""
        with self._changed:
            return tuple(self._totals.errors)

    def write(
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        *,
        timestamps: Sequence[Any] | NDArray[Any],
        values: Sequence[float] | NDArray[Any],
    ) -> None:
        """Take samples of one series; see `Database.write`. Arrays must not change afterwards."""
        self._add(series_rows(name, labels, timestamps, values))

    def write_frame(
        self,
        frame: Any,
        *,
        metric: str = "metric",
        time: str = "time",
        value: str = "value",
        labels: Sequence[str] = (),
    ) -> None:
        """Take a pandas, polars or Arrow table; see `Database.write_frame`."""
        self._add(frame_rows(frame, metric=metric, time=time, value=value, labels=labels))

    def append(
        self,
        refs: NDArray[np.uint64],
        timestamps: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> None:
        """Take columns; ``refs`` come from the connection's ``series_refs``."""
        self._add(self._client._rows_of_refs(refs, timestamps, values))

    def flush(self, timeout: Span = "1m") -> None:
        """Wait until the fate of everything taken so far is known.

        Raises the first refusal since the last call, or `UnavailableError` when the time is up;
        then the samples still wait.
        """
        with self._changed:
            goal = self._flush_to = self._pending.added
            self._changed.notify_all()
            in_time = self._changed.wait_for(
                lambda: self._pending.done >= goal, span_ms(timeout) / 1000
            )
            self._totals.raise_error()
            if not in_time:
                raise not_sent(self._pending, self._client.url)

    def close(self, timeout: Span = "1m") -> None:
        """As `flush`, then end; what was not sent in time is given up. Again changes nothing."""
        if isinstance(self._changed, Inherited):
            return
        with self._changed:
            if self._is_closing:
                return
            self._is_closing = True
            self._changed.notify_all()
        atexit.unregister(self.close)
        self._thread.join(span_ms(timeout) / 1000)
        if self._thread.is_alive():
            self._abandon.set()
            self._thread.join()
        with self._changed:
            self._totals.raise_error()
            if self._abandon.is_set() and self._pending.held:
                raise not_sent(self._pending, self._client.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _add(self, rows: FrameRows) -> None:
        with self._changed:
            self._refuse_when_closed()
            for piece in self._pending.pieces(rows):
                self._changed.wait_for(partial(self._may_go_on, len(piece.values)))
                self._refuse_when_closed()
                self._pending.add(piece, clock.monotonic())
                self._changed.notify_all()

    def _may_go_on(self, samples: int) -> bool:
        return self._is_closing or self._pending.fits(samples)

    def _refuse_when_closed(self) -> None:
        if self._is_closing:
            raise FailedPreconditionError("the buffer is closed")

    def _work(self) -> None:
        while (pieces := self._next_batch()) is not None:
            try:
                self._send(pieces)
            except Abandoned:
                return
            with self._changed:
                self._pending.finish(pieces)
                self._changed.notify_all()

    def _next_batch(self) -> list[FrameRows] | None:
        with self._changed:
            while True:
                due = self._pending.due_in(clock.monotonic())
                if due is None and self._is_closing:
                    return None
                is_asked = self._is_closing or self._flush_to > self._pending.done
                if due is not None and (due == 0 or is_asked):
                    return self._pending.take()
                self._changed.wait(due)

    def _send(self, pieces: list[FrameRows]) -> None:
        totals = Totals()
        try:
            for body, rows in bodies_of(pieces, totals):
                ask = calls.write(body, rows.series)
                try:
                    totals.count(self._client._run(ask, is_patient=True, sleep=self._pause))
                except MillstreamError as error:
                    totals.refuse(body.samples, error)
        finally:
            with self._changed:
                self._totals.merge(totals)

    def _pause(self, seconds: float) -> None:
        if self._abandon.wait(seconds):
            raise Abandoned
