"""Brings the lines of the audit log into an event topic, where they are read and followed.

Nothing waits for it: a line is in the log's file before it comes here, and stays there. While the
store does not take it, or no server runs, lines gather in the file and are published later. Each
has an id that the topic knows again, so none is there twice.
"""

from __future__ import annotations

import hashlib
import platform
import re
import threading
from contextlib import suppress
from typing import Final

import orjson
import structlog

from millstream.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    MillstreamError,
    NotFoundError,
)
from millstream_gateway.backends.events import EventStore
from millstream_gateway.schemas.access import AUDIT_TOPIC, DEFAULT_TENANT_ID
from millstream_gateway.schemas.events import NewEvent
from millstream_gateway.services.audit_trail import AuditTrail, TrailReader

log = structlog.get_logger(__name__)

_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z", re.ASCII)
_BATCH: Final = 500
# Lines of other processes come without a word.
_LOOK_SECONDS: Final = 1.0
_RETRY_SECONDS_MAX: Final = 30.0
_LAST_SECONDS: Final = 5.0
_SERVER: Final = ("server", platform.node().encode() or b"unknown")


class AuditTopic:
    """Threads  `start` and `stop` block and are called once; `wake` and the numbers by any."""

    def __init__(self, trail: AuditTrail, store: EventStore) -> None:
        self._trail = trail
        self._store = store
        self._reader: TrailReader | None = None
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="millstream-audit-topic", daemon=True
        )
        #: Times that the store did not take lines; they are tried again.
        self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is a line."""
        self._news.set()

    def stop(self) -> None:
        """Publish what is there, if that is possible soon; the rest is for the next start."""
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_SECONDS)

    def waiting(self) -> int:
        """Bytes of lines that are in the file and not in the topic yet."""
        reader = self._reader
        try:
            return 0 if reader is None else reader.waiting()
        except OSError:
            return 0

    def _run(self) -> None:
        delay = 0.0
        said = ""
        while True:
            is_last = self._stopping.is_set()
            self._news.clear()
            try:
                while self._publish_some():
                    pass
                delay, said = 0.0, ""
            except MillstreamError as error:
                self.failures += 1
                if error.message != said:
                    log.warning("lines wait for the audit topic", error=error.message)
                delay, said = min(delay * 2 or _LOOK_SECONDS, _RETRY_SECONDS_MAX), error.message
            if is_last:
                break
            if delay:
                # A line is no reason to ask a store that is gone.
                self._stopping.wait(delay)
            else:
                self._news.wait(_LOOK_SECONDS)
        if self._reader is not None:
            self._reader.close()

    def _publish_some(self) -> bool:
        """Whether there may be more."""
        reader = self._opened()
        lines = None if reader is None else reader.read()
        if reader is None or lines is None:
            return False
        events = list(map(_event, lines))
        for begin in range(0, len(events), _BATCH):
            self._publish(events[begin : begin + _BATCH])
        reader.done(str(events[-1].id) if events else reader.last_id)
        return True

    def _opened(self) -> TrailReader | None:
        if self._reader is None:
            self._make_topic()
            reader = self._trail.open_reader()
            if reader is not None and reader.last_id:
                try:
                    self._store.event_status(DEFAULT_TENANT_ID, reader.last_id)
                except NotFoundError:
                    reader.step_back()
                except MillstreamError:
                    reader.close()
                    raise
            self._reader = reader
        return self._reader

    def _make_topic(self) -> None:
        with suppress(AlreadyExistsError):
            self._store.create_topic(
                DEFAULT_TENANT_ID, AUDIT_TOPIC, {"partitions": 1, "durability": "local"}
            )

    def _publish(self, events: list[NewEvent]) -> None:
        for answer in self._store.publish(DEFAULT_TENANT_ID, events):
            if isinstance(answer, InvalidArgumentError):
                log.error("a line of the audit log is in its file only", error=answer.message)
            elif isinstance(answer, NotFoundError):
                self._make_topic()
                raise answer
            elif isinstance(answer, MillstreamError):
                raise answer


def _event(line: bytes) -> NewEvent:
    """What stands in the file, letter for letter."""
    try:
        entry = orjson.loads(line)
        actor = entry["actor"]
        key = f"{actor['kind']}:{actor['id']}".encode()[:1024]
        time_ms = int(entry["time_ms"])
        event_id = entry.get("id", "")
        if isinstance(event_id, str) and _EVENT_ID.match(event_id):
            return NewEvent(AUDIT_TOPIC, line, True, key, [_SERVER], time_ms, event_id)
        return NewEvent(AUDIT_TOPIC, line, True, key, [_SERVER], time_ms, _digest(line))
    except (KeyError, TypeError, ValueError, AttributeError):
        # What a crash or a full disk tore apart.
        return NewEvent(AUDIT_TOPIC, line, False, None, [_SERVER], None, _digest(line))


def _digest(line: bytes) -> str:
    return f"line-{hashlib.sha256(line).hexdigest()[:40]}"
