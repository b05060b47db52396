"""Events over native frames: see `millstream.native`."""

from __future__ import annotations

import json
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple

from millstream import _core
from millstream._events import bytes_of, header_pairs, payload_of, too_deep
from millstream._native_connection import (
    REFUSALS_MAX,
    RETRYABLE,
    WAIT_SECONDS_MIN,
    Address,
    Answer,
    Connection,
    Datagrams,
)
from millstream.errors import (
    Code,
    InvalidArgumentError,
    MillstreamError,
    ResourceExhaustedError,
    UnavailableError,
    error_class,
)

# A server remembers the ids of so many events of a partition, and more: what is sent again after a
# connection broke must be among them.
_EVENTS_UNDER_WAY_MAX: Final = 8192
_CREDIT: Final = 10_000
_ON_SLOW: Final = {"block": 0, "drop_oldest": 1, "disconnect": 2}

Payload = object
Start = str | int | Mapping[str, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Event:
    """One event to publish. A payload that is not bytes goes as JSON.

    ``sequence`` is for those who are idempotent producers themselves (`EventClient` given a
    ``producer``): it counts up by one in each partition.
    """

    topic: str
    payload: Payload
    key: bytes | str | None = None
    headers: Mapping[str, bytes | str] = field(default_factory=dict)
    timestamp_ms: int | None = None
    id: str | None = None
    partition: int | None = None
    sequence: int | None = None


class Received(NamedTuple):
    """One event as it is read."""

    id: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: list[tuple[str, bytes]]
    payload: bytes
    is_json: bool

    @property
    def value(self) -> object:
        """The payload, as an object where it is JSON; `InvalidArgumentError` when it is too deep."""
        try:
            return json.loads(self.payload) if self.is_json else self.payload
        except RecursionError:
            raise too_deep(self.topic, self.partition, self.offset) from None


class Fetched(NamedTuple):
    """Events of one partition, and where to go on."""

    events: list[Received]
    next_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class EventRefusal:
    """Why an event was not stored."""

    topic: str
    id: str | None
    code: str
    reason: str


@dataclass(slots=True)
class EventTotals:
    """What became of the events since the client was made."""

    stored: int = 0
    refused: int = 0
    refusals: list[EventRefusal] = field(default_factory=list)


_Packed = tuple[
    str,
    bytes,
    bool,
    bytes | None,
    list[tuple[str, bytes]],
    int | None,
    str | None,
    int | None,
    int | None,
]


#: What a producer's sequences count: a topic, and the partition that the event names.
_Row = tuple[str, int | None]


def _row_of(packed: _Packed) -> _Row:
    return packed[0], packed[7]


def _pack(event: Event, new_id: Callable[[], str] | None) -> _Packed:
    payload, is_json = payload_of(event.payload)
    given = event.id
    if given is None and new_id is not None:
        given = new_id()
    return (
        event.topic,
        payload,
        is_json,
        None if event.key is None else bytes_of(event.key),
        [(name, bytes_of(value)) for name, value in header_pairs(event.headers)],
        event.timestamp_ms,
        given,
        event.partition,
        event.sequence,
    )


class EventSubscription:
    """Events of topics as they come, from where it was asked to begin.

    The server sends what it was given credit for, and gets more as events are taken: a reader that
    is slow is only behind. When the connection breaks it goes on, after a new one was made, where
    it was. Iterating waits for ever; `poll` does not.
    """

    def __init__(
        self,
        client: EventClient,
        number: int,
        topics: list[str],
        *,
        offsets: Start,
        filter: str,  # noqa: A002
        on_slow: str,
        lag_max: int,
        credit: int,
    ) -> None:
        self._client = client
        self.number = number
        self._topics = topics
        self._begin: Start = offsets
        self._filter = filter
        self._on_slow = on_slow
        self._lag_max = lag_max
        self._credit = credit
        self._events: deque[Received] = deque()
        self._taken = 0
        self._positions: dict[str, dict[int, int]] = {}
        self.error: MillstreamError | None = None
        self.stands = False
        #: Events that it will not see: it was too slow for ``lag_max``, or for retention.
        self.dropped = 0
        self.ended = False

    def frame(self) -> bytes:
        """What asks for it, from where it is now."""
        begin: Start = self._positions or self._begin
        offsets: list[tuple[int, int, int]] = []
        timestamp = 0
        topics = list(self._topics)
        if isinstance(begin, str):
            kind = begin
        elif isinstance(begin, Mapping):
            kind = "offset"
            # Topics that a pattern found are named only for their offsets.
            for topic, partitions in begin.items():
                if topic not in topics:
                    topics.append(topic)
                place = topics.index(topic)
                offsets += [(place, partition, at) for partition, at in partitions.items()]
        else:
            kind, timestamp = "timestamp", begin
        # What has come and was not taken yet is on this side already.
        credit = max(self._credit - len(self._events), 0)
        self._taken = 0
        return _core.native_subscribe(
            self.number,
            topics,
            begin=kind,
            timestamp=timestamp,
            offsets=offsets,
            on_slow=_ON_SLOW[self._on_slow],
            lag_max=self._lag_max,
            filter=self._filter,
            credit=credit,
        )

    def stand(self, starts: list[tuple[str, int, int]]) -> None:
        """The server follows; where it begins."""
        self.stands = True
        for topic, partition, offset in starts:
            self._positions.setdefault(topic, {}).setdefault(partition, offset)

    def take_in(self, events: list[Any], dropped: int) -> None:
        """What the server sent."""
        self.dropped += dropped
        for one in events:
            event = Received(*one)
            self._events.append(event)
            self._positions.setdefault(event.topic, {})[event.partition] = event.offset + 1

    def position(self) -> dict[str, dict[int, int]]:
        """The offset that comes next after what was taken, by topic and partition."""
        found = {topic: dict(partitions) for topic, partitions in self._positions.items()}
        for event in reversed(self._events):
            found[event.topic][event.partition] = event.offset
        return found

    def poll(self, limit: int = 1000, timeout: float = 0.0) -> list[Received]:
        """At most ``limit`` events; waits ``timeout`` seconds for the first."""
        deadline = time.monotonic() + timeout
        while not self._events and not self.ended:
            if not self._client.wait_for_news(deadline):
                break
        if not self._events and self.error is not None:
            raise self.error
        out = [self._events.popleft() for _ in range(min(limit, len(self._events)))]
        self._taken += len(out)
        if self._taken * 2 >= self._credit and not self.ended:
            self._client.give_credit(self, self._taken)
            self._taken = 0
        return out

    def __iter__(self) -> Iterator[Received]:
        while not self.ended or self._events:
            yield from self.poll(timeout=1.0)

    def close(self) -> None:
        """Want no more."""
        self._client.unsubscribe(self)


def _pack_all(
    events: Event | Iterable[Event], new_id: Callable[[], str] | None = None
) -> list[_Packed]:
    listed = [events] if isinstance(events, Event) else events
    return [_pack(event, new_id) for event in listed]


class EventClient(Connection[list[_Packed]]):
    """Publishes, fetches and follows over one TCP connection.

    Publishes are pipelined: `publish` returns when they are on their way. A connection that breaks
    is made anew, and what was not acknowledged is sent again. Every event without an id gets one,
    by which the server knows what it has stored already, so that this stores nothing twice.

    Threads  One at a time.
    """

    _read_bytes: ClassVar[int] = 1 << 18

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
        assign_ids: bool = True,
        producer: tuple[str, int] | None = None,
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
        # Events of what is unanswered, or waits.
        self._under_way = 0
        # Of a producer, where the server has taken an event of it: the first one that it sees may
        # have any sequence, so none is sent behind one that may have to go again.
        self._begun: set[_Row] = set()
        self._fetched: dict[int, Fetched | MillstreamError | None] = {}
        self._subscriptions: dict[int, EventSubscription] = {}
        self._subscription = 0
        self._producer = producer or ("", 0)
        self._prefix = secrets.token_hex(8)
        self._next_id = 0
        self._new_id = self._make_id if assign_ids and producer is None else None
        self._totals = EventTotals()

    def publish(self, events: Event | Iterable[Event]) -> None:
        """Send events, those of one call together; waits while a window of them is under way."""
        packed = _pack_all(events, self._new_id)
        for begin in range(0, len(packed), _EVENTS_UNDER_WAY_MAX):
            self._send_events(packed[begin : begin + _EVENTS_UNDER_WAY_MAX])

    def flush(self) -> EventTotals:
        """Wait until everything published is answered; what became of it, and of all before."""
        self._wait_for_all()
        return self._totals

    def fetch(
        self,
        topic: str,
        partition: int = 0,
        offset: int | str = "earliest",
        *,
        timestamp_ms: int | None = None,
        limit: int = 1000,
        bytes_max: int = 1 << 20,
    ) -> Fetched:
        """Events of a partition from an offset on, "earliest", "latest", or from a time on."""
        self._start()
        begin, at = ("offset", offset) if isinstance(offset, int) else (offset, 0)
        if timestamp_ms is not None:
            begin, at = "timestamp", timestamp_ms

        def frame(sequence: int) -> bytes:
            return _core.native_fetch(
                sequence, topic, partition, begin=begin, at=at, limit=limit, bytes_max=bytes_max
            )

        found = self._ask(frame)
        while found is None:
            found = self._ask(frame)
        if isinstance(found, MillstreamError):
            raise found
        return found

    def subscribe(
        self,
        topics: str | Sequence[str],
        *,
        offsets: Start = "latest",
        filter: str = "",  # noqa: A002
        on_slow: str = "block",
        lag_max: int = 0,
        credit: int = _CREDIT,
    ) -> EventSubscription:
        """Follow topics and patterns.

        ``offsets`` is "latest", "earliest", a timestamp in milliseconds, or offsets by topic and
        partition. ``credit`` bounds the events that the server sends ahead of `poll`.
        """
        if on_slow not in _ON_SLOW:
            raise InvalidArgumentError(f"on_slow is one of {', '.join(_ON_SLOW)}, not {on_slow!r}")
        if credit < 1:
            raise InvalidArgumentError("a subscription without credit gets nothing")
        self._start()
        self._until(lambda: self._socket is not None)
        self._subscription += 1
        subscription = EventSubscription(
            self,
            self._subscription,
            [topics] if isinstance(topics, str) else list(topics),
            offsets=offsets,
            filter=filter,
            on_slow=on_slow,
            lag_max=lag_max,
            credit=credit,
        )
        self._subscriptions[subscription.number] = subscription
        self._send([subscription.frame()])
        self._until(lambda: subscription.stands or subscription.ended)
        if subscription.error is not None:
            raise subscription.error
        return subscription

    def unsubscribe(self, subscription: EventSubscription) -> None:
        """As `EventSubscription.close`."""
        if subscription.ended:
            return
        self._start()
        if self._socket is not None:
            self._send([_core.native_unsubscribe_frame(subscription.number)])
            self._until(lambda: subscription.ended or self._socket is None)
        self._subscriptions.pop(subscription.number, None)
        subscription.ended = True

    def give_credit(self, subscription: EventSubscription, events: int) -> None:
        """For a subscription."""
        self._start()
        if self._socket is not None and events:
            self._send([_core.native_credit_frame(subscription.number, events)])

    def wait_for_news(self, deadline: float) -> bool:
        """Handle what comes until the deadline; False when nothing came."""
        self._start()
        try:
            if self._socket is None:
                self._until(lambda: self._socket is not None)
                return True
            return self._go_on(max(deadline - time.monotonic(), 0.0))
        except (OSError, UnavailableError):
            self.close()
            return True

    def _resume(self) -> Iterator[bytes]:
        yield from super()._resume()
        # They go on where they are.
        for subscription in list(self._subscriptions.values()):
            yield subscription.frame()

    def _forget(self) -> None:
        super()._forget()
        self._under_way = 0
        self._begun.clear()

    def _ask(self, frame: Callable[[int], bytes]) -> Fetched | MillstreamError | None:
        """Ask once; None when the connection broke, for then no answer comes."""
        self._until(lambda: self._socket is not None)
        self._sequence += 1
        sequence, connections = self._sequence, self.connections
        self._fetched[sequence] = None
        try:
            self._send([frame(sequence)])
            self._until(
                lambda: self._fetched[sequence] is not None or self.connections != connections
            )
            return self._fetched[sequence]
        finally:
            del self._fetched[sequence]

    def _make_id(self) -> str:
        self._next_id += 1
        return f"{self._prefix}-{self._next_id}"

    def _send_events(self, packed: list[_Packed]) -> None:
        self._start()
        numbered = bool(self._producer[0])
        rows = set(map(_row_of, packed)) if numbered else set()
        self._until(
            lambda: (
                self._socket is not None
                and not self._waiting
                and len(self._unanswered) < self._window
                and (not self._under_way or self._under_way + len(packed) <= _EVENTS_UNDER_WAY_MAX)
                and (not self._unanswered or not numbered or rows <= self._begun)
            )
        )
        self._sequence += 1
        try:
            frames = self._frames(self._sequence, packed)
        except ResourceExhaustedError:
            if len(packed) == 1:
                raise
            # Too long for one frame.
            half = len(packed) // 2
            self._send_events(packed[:half])
            self._send_events(packed[half:])
            return
        self._unanswered[self._sequence] = packed
        self._under_way += len(packed)
        self._send(frames)

    def _frames(self, sequence: int, batch: list[_Packed]) -> list[bytes]:
        producer, epoch = self._producer
        return [_core.native_publish(sequence, batch, producer=producer, epoch=epoch)]

    def _handle(self, answer: Answer) -> None:
        match answer:
            case ("published", int(sequence), list(runs)):
                self._published(sequence, runs)
            case ("refused", int(sequence), int(code), int(retry_after_ms), str(reason)):
                self._refused(sequence, Code(code), retry_after_ms, reason)
            case ("fetched", int(sequence), list(events), int(next_offset), int(end_offset)):
                if sequence in self._fetched:
                    self._fetched[sequence] = Fetched(
                        [Received(*one) for one in events], next_offset, end_offset
                    )
            case ("subscribed", int(number), list(starts)):
                if number in self._subscriptions:
                    self._subscriptions[number].stand(starts)
            case ("delivered", int(number), list(events), int(dropped)):
                if number in self._subscriptions:
                    self._subscriptions[number].take_in(events, dropped)
            case ("ended", int(number), int(code), str(reason)):
                self._ended(number, code, reason)

    def _published(self, sequence: int, runs: list[Any]) -> None:
        packed = self._unanswered.pop(sequence, None)
        if packed is None:
            return
        self._under_way -= len(packed)
        again: list[_Packed] = []
        place = 0
        for count, code, reason, *_ in runs:
            some = packed[place : place + count]
            place += count
            if not code:
                self._totals.stored += count
                if self._producer[0]:
                    self._begun.update(map(_row_of, some))
            elif self._may_go_again(Code(code), behind=again):
                again += some
            else:
                self._refuse(some, Code(code), str(reason))
        if again:
            self._wait_with(again, WAIT_SECONDS_MIN)
            self._under_way += len(again)

    def _refused(self, sequence: int, code: Code, retry_after_ms: int, reason: str) -> None:
        if sequence in self._fetched:
            self._fetched[sequence] = error_class(int(code))(reason)
            return
        packed = self._unanswered.pop(sequence, None)
        if packed is None:
            return
        if self._may_go_again(code):
            self._wait_with(packed, retry_after_ms / 1000)
        else:
            self._under_way -= len(packed)
            self._refuse(packed, code, reason)

    def _may_go_again(self, code: Code, behind: Sequence[_Packed] = ()) -> bool:
        """A producer's gap closes only when something before it goes again."""
        if code is Code.ABORTED and self._producer[0]:
            return bool(self._waiting or behind)
        return code in RETRYABLE

    def _refuse(self, packed: list[_Packed], code: Code, reason: str) -> None:
        self._totals.refused += len(packed)
        for event in packed[: REFUSALS_MAX - len(self._totals.refusals)]:
            self._totals.refusals.append(EventRefusal(event[0], event[6], code.name, reason))

    def _ended(self, number: int, code: int, reason: str) -> None:
        subscription = self._subscriptions.pop(number, None)
        if subscription is None:
            return
        subscription.ended = True
        if code:
            subscription.error = error_class(code)(reason)


class EventDatagramSender(Datagrams):
    """Publishes over UDP. Nobody says whether events arrived; the server counts what is missing.

    Threads  One at a time.
    """

    def publish(self, events: Event | Iterable[Event]) -> None:
        """One datagram. `ResourceExhaustedError` when it does not fit into 65507 bytes."""
        self._send(_core.native_event_datagram(*self._sender(), _pack_all(events)))
