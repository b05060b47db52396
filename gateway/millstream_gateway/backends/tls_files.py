"""Certificates, keys and CAs in files: read in one piece, judged before they are used."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog
from cryptography import x509

from millstream.errors import FailedPreconditionError

log = structlog.get_logger(__name__)

T = TypeVar("T")
_FILE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What the metrics say about one certificate.

    ``use`` is what it is for: server or nodes.
    """

    use: str
    expires_ms: int
    reloads: int
    failing: bool


@dataclass(frozen=True, slots=True)
class PemFiles:
    """The bytes of the three files at one time. An absent CA is empty."""

    certificate: bytes
    key: bytes
    ca: bytes

    @property
    def fingerprint(self) -> bytes:
        parts = (self.certificate, self.key, self.ca)
        return b"".join(hashlib.sha256(part).digest() for part in parts)


@dataclass(frozen=True, slots=True)
class PemPaths:
    """Where they are. Empty paths are files that are not used."""

    certificate: str
    key: str
    ca: str

    def read(self) -> PemFiles:
        """`FailedPreconditionError` names the file that cannot be read."""
        return PemFiles(_read(self.certificate), _read(self.key), _read(self.ca))


class Reloading(Generic[T]):
    """Something made from the files, made anew when they change.

    What cannot be used is logged once, counted, and changes nothing: what was made before stays, and
    the files are tried again until they are good. ``make`` gets the files' bytes and raises
    `FailedPreconditionError`, `OSError` or `ValueError`, of which every error of TLS is one.

    Threads  Any; one reload runs at a time. ``value`` may be read while one does.
    """

    def __init__(self, use: str, paths: PemPaths, make: Callable[[PemFiles], T]) -> None:
        self._use = use
        self._paths = paths
        self._make = make
        self._lock = threading.Lock()
        self._value: T | None = None
        self._fingerprint = b""
        self._refused = b""
        self._failing = False
        self._expires_ms = 0
        self._reloads = 0

    def open(self) -> T:
        """Make it for the first time. Raises `FailedPreconditionError` when that is impossible."""
        with self._lock:
            if self._value is None:
                try:
                    files = self._paths.read()
                    expires_ms = _expiry_ms(files.certificate)
                    self._adopt(files, self._make(files), expires_ms)
                except (OSError, ValueError) as error:
                    raise FailedPreconditionError(self._explain(error)) from None
                if expires_ms <= _now_ms():
                    log.error(
                        "the certificate has expired; peers will refuse it",
                        use=self._use,
                        file=self._paths.certificate,
                        expired=_date(expires_ms),
                    )
            return self._opened

    @property
    def value(self) -> T:
        """What was made last."""
        return self._opened

    @property
    def state(self) -> CertificateState:
        return CertificateState(self._use, self._expires_ms, self._reloads, self._failing)

    def reload(self) -> bool:
        """Whether the files had changed and are in use now."""
        with self._lock:
            fingerprint = b"unreadable"
            try:
                files = self._paths.read()
                fingerprint = files.fingerprint
                if fingerprint == self._fingerprint:
                    self._failing, self._refused = False, b""
                    return False
                expires_ms = _expiry_ms(files.certificate)
                if expires_ms <= _now_ms():
                    raise ValueError(f"it expired on {_date(expires_ms)}")
                made = self._make(files)
            except (FailedPreconditionError, OSError, ValueError) as error:
                self._failing = True
                if fingerprint != self._refused:
                    self._refused = fingerprint
                    log.error(
                        "the new certificate cannot be used; the one before stays",
                        use=self._use,
                        error=self._explain(error),
                    )
                return False
            self._adopt(files, made, expires_ms)
            self._reloads += 1
            log.info("certificate reloaded", use=self._use, expires=_date(expires_ms))
            return True

    @property
    def _opened(self) -> T:
        if self._value is None:
            raise FailedPreconditionError(f"the certificate for {self._use} is not loaded")
        return self._value

    def _adopt(self, files: PemFiles, made: T, expires_ms: int) -> None:
        self._value = made
        self._fingerprint = files.fingerprint
        self._expires_ms = expires_ms
        self._failing, self._refused = False, b""

    def _explain(self, error: Exception) -> str:
        if isinstance(error, FailedPreconditionError):
            return error.message
        paths = ", ".join(filter(None, (self._paths.certificate, self._paths.key, self._paths.ca)))
        return f"{paths}: {error}"


def refuse_password() -> str:
    """In place of asking on the terminal of a server for the password of a key."""
    raise ValueError("the key is encrypted; a server needs one without a password")


def _read(path: str) -> bytes:
    if not path:
        return b""
    try:
        with Path(path).open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise FailedPreconditionError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > _FILE_BYTES_MAX:
        raise FailedPreconditionError(f"{path} has more than {_FILE_BYTES_MAX} bytes")
    return content


def _expiry_ms(certificate: bytes) -> int:
    leaf = x509.load_pem_x509_certificates(certificate)[0]
    return int(leaf.not_valid_after_utc.timestamp() * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
