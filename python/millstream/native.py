"""Clients for native frames: samples and events over TCP, acknowledged, or over UDP, best effort.

The server's side is a setting, ``native.port``; the format is drawn in docs/formats/native.md.

>>> import millstream.native
>>> with millstream.native.connect("127.0.0.1:8082") as client:  # doctest: +SKIP
...     refs = client.series([{"__name__": "cpu", "host": "a"}, {"__name__": "cpu", "host": "b"}])
...     client.write(refs, timestamps=[1732000000000, 1732000000000], values=[0.5, 0.7])
...     client.flush().samples
2

Events of topics, which the server stores once however often a connection breaks:

>>> from millstream.native import Event
>>> with millstream.native.connect_events("127.0.0.1:8082") as client:  # doctest: +SKIP
...     client.publish(Event("orders", {"n": n}, key=f"customer-{n % 7}") for n in range(1000))
...     client.flush().stored
...     client.fetch("orders", 0, "earliest", limit=1).events[0].value
...     for event in client.subscribe("orders", offsets="earliest"):
...         print(event.offset, event.value)
1000
{'n': 0}
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from millstream import _core
from millstream._native_connection import (
    REFUSALS_MAX,
    RETRYABLE,
    Address,
    Answer,
    Connection,
    Datagrams,
    RefusedForGoodError,
)
from millstream._native_events import (
    Event,
    EventClient,
    EventDatagramSender,
    EventRefusal,
    EventSubscription,
    EventTotals,
    Fetched,
    Received,
)
from millstream.errors import Code, InvalidArgumentError, error_class

__all__ = [
    "Client",
    "DatagramSender",
    "Event",
    "EventClient",
    "EventDatagramSender",
    "EventRefusal",
    "EventSubscription",
    "EventTotals",
    "Fetched",
    "Received",
    "Refusal",
    "Totals",
    "connect",
    "connect_events",
    "event_sender",
]

_SAMPLE_BYTES: Final = 20
_WRITE_OVERHEAD_BYTES: Final = 12
_SERIES_PER_FRAME: Final = 1000

Refs = npt.ArrayLike
Times = npt.ArrayLike
Values = npt.ArrayLike


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a sample was refused by itself; ``item`` is its index in the call of `Client.write`."""

    item: int
    code: str
    reason: str


@dataclass(slots=True)
class Totals:
    """What the server acknowledged since the client was made."""

    samples: int = 0
    rejected: int = 0
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(slots=True)
class _Batch:
    refs: npt.NDArray[np.uint32]
    timestamps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    first_item: int


def connect(
    address: str | tuple[str, int],
    *,
    key: str = "",
    tenant: str = "",
    name: str = "millstream.native",
    timeout: float = 30.0,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Client:
    """A client that is connected to ``host:port``.

    ``key`` is an API key or a token, ``tenant`` one of the caller's; both may be empty where the
    server asks for neither. ``timeout`` is how many seconds one call may wait, reconnecting
    included. ``tls`` is a context such as `ssl.create_default_context` makes, with the client's
    certificate where the server wants one; ``server_name`` is the name in the server's
    certificate, when that is not the host.
    """
    client = Client(
        address,
        key=key,
        tenant=tenant,
        name=name,
        timeout=timeout,
        tls=tls,
        server_name=server_name,
    )
    client.open()
    return client


def connect_events(
    address: str | tuple[str, int],
    *,
    key: str = "",
    tenant: str = "",
    name: str = "millstream.native",
    timeout: float = 30.0,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    assign_ids: bool = True,
    producer: tuple[str, int] | None = None,
) -> EventClient:
    """A client for events that is connected to ``host:port``; arguments as of `connect`.

    Events that have no id get one, unless ``assign_ids`` is False: then what is sent again after a
    connection broke may be stored twice. ``producer`` is for those who number the events of each
    partition themselves: an id, and an epoch that grows with each start.
    """
    client = EventClient(
        address,
        key=key,
        tenant=tenant,
        name=name,
        timeout=timeout,
        tls=tls,
        server_name=server_name,
        assign_ids=assign_ids,
        producer=producer,
    )
    client.open()
    return client


def event_sender(
    address: str | tuple[str, int], *, key: str = "", tenant: str = ""
) -> EventDatagramSender:
    """What publishes events to ``host:port`` over UDP, best effort."""
    return EventDatagramSender(address, key=key, tenant=tenant)


class Client(Connection[_Batch]):
    """Writes samples over one TCP connection, several batches under way at a time.

    A connection that breaks is made anew, and what was not acknowledged is sent again: the server
    stores a sample that it has already only once.

    Threads  One at a time.
    """

    def __init__(
        self,
        address: Address,
        *,
        key: str = "",
        tenant: str = "",
        name: str = "millstream.native",
        timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        super().__init__(
            address,
            key=key,
            tenant=tenant,
            name=name,
            timeout=timeout,
            tls=tls,
            server_name=server_name,
        )
        self._labels: list[dict[str, str]] = []
        self._refs: dict[frozenset[tuple[str, str]], int] = {}
        # How many of the labels this connection's server knows.
        self._defined = 0
        self._totals = Totals()

    def series(self, label_sets: Sequence[Mapping[str, str]]) -> npt.NDArray[np.uint32]:
        """A reference for each label set, ``__name__`` among the labels; equal sets get equal ones."""
        refs = np.empty(len(label_sets), dtype=np.uint32)
        for index, labels in enumerate(label_sets):
            key = frozenset(labels.items())
            ref = self._refs.get(key)
            if ref is None:
                ref = self._refs[key] = len(self._labels)
                self._labels.append(dict(labels))
            refs[index] = ref
        return refs

    def write(self, refs: Refs, timestamps: Times, values: Values) -> None:
        """Send columns of equal length: references, int64 milliseconds, float64 values.

        Returns when they are on their way; waits while the server has a window full of them. An
        error says that a batch was refused for good, this one or one before it that was on its way.
        """
        self._start()
        # Copies: they may have to go again after the caller has changed his own.
        columns = (
            np.array(refs, dtype=np.uint32, order="C"),
            np.array(timestamps, dtype=np.int64, order="C"),
            np.array(values, dtype=np.float64, order="C"),
        )
        if not len({column.shape for column in columns}) == 1 == columns[0].ndim:
            raise InvalidArgumentError("references, timestamps and values need equal lengths")
        if len(columns[0]) and int(columns[0].max()) >= len(self._labels):
            raise InvalidArgumentError(f"series {int(columns[0].max())} is not defined")
        self._until(lambda: self._socket is not None)
        step = (self._frame_bytes - _WRITE_OVERHEAD_BYTES) // _SAMPLE_BYTES
        for begin in range(0, len(columns[0]), step):
            self._until(
                lambda: (
                    self._socket is not None
                    and not self._waiting
                    and len(self._unanswered) < self._window
                )
            )
            part = slice(begin, begin + step)
            self._write(_Batch(columns[0][part], columns[1][part], columns[2][part], begin))

    def flush(self) -> Totals:
        """Wait until everything written is acknowledged; what was, since the client was made."""
        self._wait_for_all()
        return self._totals

    def _resume(self) -> Iterator[bytes]:
        self._defined = 0
        yield from super()._resume()

    def _write(self, batch: _Batch) -> None:
        self._sequence += 1
        self._unanswered[self._sequence] = batch
        self._send(self._frames(self._sequence, batch))

    def _frames(self, sequence: int, batch: _Batch) -> Iterator[bytes]:
        """A write, behind the series that the server does not know yet."""
        while self._defined < len(self._labels):
            part = self._labels[self._defined : self._defined + _SERIES_PER_FRAME]
            yield _core.native_series(self._defined, part)
            self._defined += len(part)
        yield _core.native_write(sequence, batch.refs, batch.timestamps, batch.values)

    def _handle(self, answer: Answer) -> None:
        match answer:
            case ("ack", int(sequence), int(samples), int(rejected), list(errors)):
                batch = self._unanswered.pop(sequence, None)
                self._totals.samples += samples
                self._totals.rejected += rejected
                first = 0 if batch is None else batch.first_item
                for item, code, reason in errors:
                    if len(self._totals.refusals) < REFUSALS_MAX:
                        self._totals.refusals.append(Refusal(first + item, code, reason))
            case ("refused", int(sequence), int(code), int(retry_after_ms), str(reason)):
                self._refused(sequence, Code(code), retry_after_ms, reason)

    def _refused(self, sequence: int, code: Code, retry_after_ms: int, reason: str) -> None:
        batch = self._unanswered.pop(sequence, None)
        if batch is None:
            return
        seconds = retry_after_ms / 1000
        if code not in RETRYABLE or time.monotonic() + seconds > self._deadline:
            raise RefusedForGoodError(error_class(int(code))(reason))
        self._wait_with(batch, seconds)


class DatagramSender(Datagrams):
    """Writes samples over UDP. Nobody says whether they arrived; the server counts what is missing.

    Threads  One at a time.
    """

    def send(
        self,
        label_sets: Sequence[Mapping[str, str]],
        refs: Refs,
        timestamps: Times,
        values: Values,
    ) -> None:
        """One datagram: label sets, and columns whose references are indices into them.

        `ResourceExhaustedError` when it does not fit into 65507 bytes.
        """
        datagram = _core.native_datagram(
            *self._sender(),
            [dict(labels) for labels in label_sets],
            np.ascontiguousarray(refs, dtype=np.uint32),
            np.ascontiguousarray(timestamps, dtype=np.int64),
            np.ascontiguousarray(values, dtype=np.float64),
        )
        self._send(datagram)
