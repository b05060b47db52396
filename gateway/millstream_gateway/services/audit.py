"""Who did what: one JSON object a line, appended and never rewritten.

A line is one write to a file opened for appending, so lines of several processes do not mix, and
the file may be moved away by a log rotator at any time. JSON escapes every control character, so
no value can forge a line. Secrets never come here: callers pass ids.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import structlog

from millstream.errors import UnavailableError
from millstream_gateway.schemas.access import Caller

log = structlog.get_logger(__name__)

FILE_NAME: Final = "audit.jsonl"
_TEXT_MAX: Final = 300
_WAITING_MAX: Final = 1000


class AuditSink(Protocol):
    """Takes whole lines."""

    def append(self, line: bytes, *, durable: bool) -> None: ...


class AuditFile:
    """Lines in a file that only its owner reads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, line: bytes, *, durable: bool) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(
                self._path,
                os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
            try:
                os.write(file, line)
                if durable:
                    os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise UnavailableError(f"{self._path} cannot be written: {error.strerror}") from None


class AuditMemory:
    """Lines in memory, for a database that is there, too. The newest are kept."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def append(self, line: bytes, *, durable: bool) -> None:
        del self.lines[: -_WAITING_MAX + 1]
        self.lines.append(line)


class AuditLog:
    """Threads  Any thread may call any method."""

    def __init__(self, sink: AuditSink) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="millstream-audit")
        self._lock = threading.Lock()
        self._waiting = 0
        self._dropped = 0

    def record(self, caller: Caller, action: str, outcome: str, **details: Any) -> None:
        """Write a line and return when it is durable. Blocks."""
        self._sink.append(_line(caller, action, outcome, details), durable=True)

    def note(self, caller: Caller, action: str, outcome: str, **details: Any) -> None:
        """Write a line soon. For refusals, of which a stranger can cause many.

        When too many wait they are dropped; the next line that is written says how many.
        """
        with self._lock:
            if self._waiting >= _WAITING_MAX:
                self._dropped += 1
                return
            self._waiting += 1
            dropped, self._dropped = self._dropped, 0
        if dropped:
            details["dropped_before"] = dropped
        self._thread.submit(self._write, _line(caller, action, outcome, details))

    def close(self) -> None:
        """Write what waits."""
        self._thread.shutdown(wait=True)

    def _write(self, line: bytes) -> None:
        try:
            self._sink.append(line, durable=False)
        except UnavailableError as error:
            log.error("the audit log cannot be written", error=error.message)
        finally:
            with self._lock:
                self._waiting -= 1


def _line(caller: Caller, action: str, outcome: str, details: dict[str, Any]) -> bytes:
    principal = caller.principal
    entry = {
        "time_ms": time.time_ns() // 1_000_000,
        "actor": {
            "kind": principal.kind,
            "id": principal.id,
            "name": principal.name,
            "role": principal.role.value,
        },
        "client": caller.client,
        "action": action,
        "outcome": outcome,
        **{key: _bounded(value) for key, value in details.items()},
    }
    return orjson.dumps(entry) + b"\n"


def _bounded(value: Any) -> Any:
    return value[:_TEXT_MAX] if isinstance(value, str) else value
