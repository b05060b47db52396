"""Events that are published from the background."""

from __future__ import annotations

import atexit
import threading
import time as clock
import uuid
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from millstream._columns import Span, count_of, span_ms
from millstream._events import BATCH_EVENTS, HeaderPairs, NewEvent, Published, fields_of
from millstream._forks import Inherited, watch
from millstream.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MillstreamError,
    UnavailableError,
)

_IN_FLIGHT_MAX: Final = 1_000_000
Outcome = Published | MillstreamError
F = TypeVar("F")


class Line(Generic[F]):
    """The events of one producer that are not acknowledged, each with its future. Does no I/O.

    Every event gets an id, so that it is stored once however often it is sent. Not for several
    threads.
    """

    def __init__(self, topic: str, in_flight: int) -> None:
        self.topic = topic
        self._room = count_of(in_flight, "in_flight", _IN_FLIGHT_MAX)
        self._name = uuid.uuid4().hex
        self._waiting: deque[tuple[NewEvent, F]] = deque()
        self._refused: MillstreamError | None = None
        self.added = 0
        self.done = 0

    @property
    def held(self) -> int:
        return self.added - self.done

    @property
    def has_room(self) -> bool:
        return self.held < self._room

    def add(self, event: NewEvent, future: F) -> None:
        if event.id is None:
            event = replace(event, id=f"{self._name}-{self.added}")
        self._waiting.append((event, future))
        self.added += 1

    def take(self) -> list[tuple[NewEvent, F]]:
        """The oldest that were not sent."""
        count = min(len(self._waiting), BATCH_EVENTS)
        return [self._waiting.popleft() for _ in range(count)]

    def finish(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self.done += 1
            if isinstance(outcome, MillstreamError):
                self._refused = self._refused or outcome

    def raise_refused(self) -> None:
        """Raise the first refusal since the last call, if there was any."""
        error, self._refused = self._refused, None
        if error is not None:
            raise error

    def late(self) -> UnavailableError:
        return UnavailableError(f"{self.held} events of topic {self.topic} were not sent in time")


def check(topic: str, event: NewEvent) -> None:
    """Raise what could only be found when it is sent, among others."""
    fields_of(topic, event, clock.time_ns() // 1_000_000)


class Publishes(Protocol):
    """What a producer needs of a topic."""

    name: str

    def publish_many(self, events: Any, *, strict: bool = True) -> list[Outcome]: ...


class Producer:
    """Publishes in the order of `publish`, from a thread of its own. Made by ``topic.producer``.

    What comes while a batch is under way is the next batch. At most ``in_flight`` events are not
    acknowledged; then `publish` waits. Each event has an id, so that one that is sent again, because
    an answer was lost, is stored once.

    Threads: any thread may call any method.
    """

    def __init__(self, topic: Publishes, in_flight: int) -> None:
        self._topic = topic
        self._line: Line[Future[Published]] = Line(topic.name, in_flight)
        self._changed = threading.Condition()
        watch(self, "_changed")
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="millstream-producer", daemon=True)
        self._thread.start()
        # A program that ends without closing still sends what it published.
        atexit.register(self.close)

    @property
    def in_flight(self) -> int:
        """Events that are not acknowledged yet."""
        with self._changed:
            return self._line.held

    def publish(
        self,
        payload: Any,
        *,
        key: bytes | str | None = None,
        headers: HeaderPairs | None = None,
        timestamp: Any = None,
        id: str | None = None,  # noqa: A002 - the field's name
        partition: int | None = None,
    ) -> Future[Published]:
        """Take one event, as ``topic.publish``. The future is its acknowledgement, or its refusal.

        What is no event is refused here; the payload must not change afterwards.
        """
        event = NewEvent(payload, key, headers or {}, timestamp, id, partition)
        check(self._topic.name, event)
        future: Future[Published] = Future()
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._line.has_room)
            if self._is_closing:
                raise FailedPreconditionError("the producer is closed")
            self._line.add(event, future)
            self._changed.notify_all()
        return future

    def flush(self, timeout: Span = "1m") -> None:
        """Wait until everything taken so far is acknowledged or refused.

        Raises the first refusal since the last call, or `UnavailableError` when the time is up.
        """
        with self._changed:
            goal = self._line.added
            in_time = self._changed.wait_for(
                lambda: self._line.done >= goal, span_ms(timeout) / 1000
            )
            self._line.raise_refused()
            if not in_time:
                raise self._line.late()

    def close(self, timeout: Span = "1m") -> None:
        """Take no more, and `flush`. Closing again changes nothing."""
        if isinstance(self._changed, Inherited):
            return
        with self._changed:
            if self._is_closing:
                return
            self._is_closing = True
            self._changed.notify_all()
        atexit.unregister(self.close)
        self.flush(timeout)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while batch := self._next_batch():
            outcomes = self._send([event for event, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.set_running_or_notify_cancel():
                    continue
                if isinstance(outcome, MillstreamError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            with self._changed:
                self._line.finish(outcomes)
                self._changed.notify_all()

    def _next_batch(self) -> list[tuple[NewEvent, Future[Published]]]:
        with self._changed:
            while not (batch := self._line.take()) and not self._is_closing:
                self._changed.wait()
            return batch

    def _send(self, events: list[NewEvent]) -> list[Outcome]:
        try:
            return self._topic.publish_many(events, strict=False)
        except InvalidArgumentError as error:
            # One that cannot be written down harms no other.
            return [error] if len(events) == 1 else [self._send([one])[0] for one in events]
        except MillstreamError as error:
            return [error] * len(events)
