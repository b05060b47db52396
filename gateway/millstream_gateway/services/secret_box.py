"""Locks secrets that are kept beside others: signing keys in the MetaStore, a sign-in under way.

The key that locks never is in the MetaStore. It comes from ``auth.wrapping_key``, or from a file of
random bytes that only the owner of the folder reads, made when it is first needed. So a copy of the
MetaStore alone, in a backup or in etcd, gives nobody a private key.

AES-256-GCM; the name of what is locked is authenticated with it, so one secret cannot be put in the
place of another.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import threading
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from millstream.errors import DataLossError, UnavailableError

FILE_NAME: Final = "wrapping.key"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class WrongKeyError(DataLossError):
    """Locked with another key, or changed since."""


class SecretBox:
    """Threads  Any. The first use of a file blocks."""

    def __init__(self, given: SecretStr | None, folder: Path | None) -> None:
        self._given = given
        self._file = None if folder is None else folder / FILE_NAME
        self._lock = threading.Lock()
        self._cipher: AESGCM | None = None
        self._marking = b""

    def lock(self, name: str, secret: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._opened().encrypt(nonce, secret, name.encode())

    def unlock(self, name: str, locked: bytes) -> bytes:
        """`WrongKeyError` when this is not what `lock` made under this name."""
        nonce, rest = locked[:_NONCE_BYTES], locked[_NONCE_BYTES:]
        try:
            return self._opened().decrypt(nonce, rest, name.encode())
        except (InvalidTag, ValueError):
            raise WrongKeyError(f"{name} was locked with another key") from None

    def mark(self, secret: bytes) -> str:
        """Tells one secret from the next, and whoever has not the key nothing about it."""
        self._opened()
        return hmac.digest(self._marking, secret, "sha256").hex()

    def _opened(self) -> AESGCM:
        with self._lock:
            if self._cipher is None:
                hkdf = HKDF(SHA256(), 2 * _KEY_BYTES, salt=None, info=b"millstream wrapping 1")
                derived = hkdf.derive(self._material())
                self._marking = derived[_KEY_BYTES:]
                self._cipher = AESGCM(derived[:_KEY_BYTES])
            return self._cipher

    def _material(self) -> bytes:
        if self._given is not None:
            return self._given.get_secret_value().encode()
        if self._file is None:
            return os.urandom(_KEY_BYTES)
        try:
            return _read_or_make(self._file)
        except OSError as error:
            raise UnavailableError(f"{self._file} cannot be used: {error.strerror}") from None


def _read_or_make(file: Path) -> bytes:
    """The bytes in the file. Of several processes that make it at once, one wins."""
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whole or not there: a link gives a finished file its name, and fails when it is taken.
        temporary = file.with_name(f"{file.name}.{os.urandom(8).hex()}")
        made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(made, os.urandom(_KEY_BYTES))
            os.fsync(made)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, file)
        finally:
            os.close(made)
            temporary.unlink()
    material = file.read_bytes()
    if len(material) != _KEY_BYTES:
        raise DataLossError(f"{file} is damaged: it must hold {_KEY_BYTES} bytes")
    return material
