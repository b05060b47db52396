"""The way back from the audit log's file: whole lines in order, each handed out once.

How far they were handed on is kept in a file beside it, with a digest of the last of those lines.
So the place is found again in a file that a rotator has moved away, or that was copied from another
folder, and a new file at the old path is not mistaken for the old one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import orjson

from millstream.errors import UnavailableError
from millstream_gateway.backends.whole_files import replace_file

MARK_NAME: Final = "audit.published"
LOCK_NAME: Final = "audit.lock"
# Read at once; a longer line than this comes in pieces.
READ_BYTES: Final = 256 << 10
# As many ids as a topic surely remembers, so that what is published again is stored once.
STEP_BACK_LINES: Final = 16_000
_SEARCH_BYTES: Final = 64 << 20


class Mark(NamedTuple):
    """Up to where lines were handed on: the end of the last of them, and what it was."""

    offset: int = 0
    length: int = 0
    digest: str = ""
    event_id: str = ""


class TrailReader(Protocol):
    """Reads on where it, or one before it, ended. Threads: one at a time; blocks."""

    @property
    def last_id(self) -> str:
        """The id of the last line that was done; empty when there is none."""

    def read(self) -> Sequence[bytes] | None:
        """The next lines without their ends and without empty ones; None when nothing is there."""

    def done(self, event_id: str) -> None:
        """What was read is handed on, the last of it as ``event_id``: the next `read` goes on."""

    def step_back(self) -> None:
        """Go back by `STEP_BACK_LINES`: what was handed on may have been lost there."""

    def waiting(self) -> int:
        """Bytes that are still to be read."""

    def close(self) -> None: ...


class AuditTrail(Protocol):
    """Where the lines of an audit log can be read back."""

    def open_reader(self) -> TrailReader | None:
        """None while another process reads."""


class FileTrail:
    """The trail of a file that is appended to, and moved away now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open_reader(self) -> TrailReader | None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                self._path.with_name(LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise _unreadable(self._path, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _FileReader(self._path, lock)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError as error:
            os.close(lock)
            raise _unreadable(self._path, error) from None


class _FileReader:
    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._mark_path = path.with_name(MARK_NAME)
        self._file: int | None = None
        self._mark = self._load()
        self._read_bytes = 0
        self._last_line = b""
        self._file = self._find()

    @property
    def last_id(self) -> str:
        return self._mark.event_id

    def read(self) -> Sequence[bytes] | None:
        try:
            return self._read()
        except OSError as error:
            raise _unreadable(self._path, error) from None

    def done(self, event_id: str) -> None:
        digest = hashlib.sha256(self._last_line).hexdigest()
        mark = Mark(self._mark.offset + self._read_bytes, len(self._last_line), digest, event_id)
        self._read_bytes = 0
        self._mark = mark
        self._save()

    def step_back(self) -> None:
        if self._file is None:
            return
        # The last bytes that can hold as many lines; what is before them stays where it is.
        begin = max(0, self._mark.offset - _SEARCH_BYTES)
        text = os.pread(self._file, self._mark.offset - begin, begin)
        at = len(text)
        for _ in range(STEP_BACK_LINES + 1):
            at = text.rfind(b"\n", 0, at)
            if at < 0:
                break
        self._mark = Mark(begin + at + 1)
        self._read_bytes = 0

    def waiting(self) -> int:
        file = self._file
        if file is None:
            return 0
        return max(0, os.fstat(file).st_size - self._mark.offset)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _read(self) -> Sequence[bytes] | None:
        if self._file is None:
            self._file = self._open(self._path)
            if self._file is None:
                return None
        text = self._whole_lines(self._file)
        if not text and self._has_moved_on(self._file):
            # Once more: somebody may have had the old file open when it was moved away.
            text = self._whole_lines(self._file)
            if not text:
                os.close(self._file)
                self._file = self._open(self._path)
                self._mark = Mark(event_id=self._mark.event_id)
                text = b"" if self._file is None else self._whole_lines(self._file)
        if not text:
            return None
        self._read_bytes = len(text)
        lines = text.removesuffix(b"\n").split(b"\n")
        self._last_line = lines[-1] + (b"\n" if text.endswith(b"\n") else b"")
        return [line for line in lines if line]

    def _whole_lines(self, file: int) -> bytes:
        text = os.pread(file, READ_BYTES, self._mark.offset)
        if len(text) == READ_BYTES and b"\n" not in text:
            return text
        return text[: text.rfind(b"\n") + 1]

    def _has_moved_on(self, file: int) -> bool:
        """Whether there is another file at the path, or the same and shorter."""
        mine = os.fstat(file)
        if mine.st_size < self._mark.offset:
            return True
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _find(self) -> int | None:
        """The file that the mark is about: the one at the path, or one that was moved away."""
        file = self._open(self._path)
        if file is not None and self._holds_mark(file):
            return file
        with suppress(OSError):
            for path in sorted(self._path.parent.glob(f"{self._path.name}?*")):
                moved = self._open(path)
                if moved is None:
                    continue
                if self._mark.offset and self._holds_mark(moved):
                    if file is not None:
                        os.close(file)
                    return moved
                os.close(moved)
        self._mark = Mark(event_id=self._mark.event_id)
        return file

    def _holds_mark(self, file: int) -> bool:
        mark = self._mark
        if not mark.offset:
            return True
        line = os.pread(file, mark.length, mark.offset - mark.length)
        return hashlib.sha256(line).hexdigest() == mark.digest

    @staticmethod
    def _open(path: Path) -> int | None:
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def _load(self) -> Mark:
        try:
            found = orjson.loads(self._mark_path.read_bytes())
            return Mark(
                int(found["offset"]), int(found["length"]), found["digest"], found["event_id"]
            )
        except FileNotFoundError:
            return Mark()
        except (KeyError, TypeError, ValueError):
            # From the beginning, then: what is there already is known by its id.
            return Mark()

    def _save(self) -> None:
        try:
            replace_file(self._mark_path, orjson.dumps(self._mark._asdict()))
        except OSError as error:
            raise _unreadable(self._mark_path, error) from None


def _unreadable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path} cannot be read or written: {error.strerror or error}")
