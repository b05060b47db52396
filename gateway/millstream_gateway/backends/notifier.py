"""`EventNotifier` for the backends whose subscriptions live in Python."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count


class TokenNotifier:
    """An eventfd, and behind it the tokens that were told since the last `take`.

    Threads  Any. The descriptor is closed with the last reference, so nobody tells a closed one.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._tokens: set[int] = set()
        self._numbers = count(1)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def new_token(self) -> int:
        """A number that no other subscription of this notifier has."""
        return next(self._numbers)

    def take(self) -> Sequence[int]:
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        with self._lock:
            tokens, self._tokens = self._tokens, set()
        return list(tokens)

    def tell(self, token: int) -> None:
        """Something happened to the subscription of this token."""
        with self._lock:
            self._tokens.add(token)
        os.eventfd_write(self._descriptor, 1)
