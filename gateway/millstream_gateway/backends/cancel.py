"""A one-way switch by which a waiting caller stops the work that it waits for.

Threads  Any thread may call any method. Callbacks run on the thread that cancels, once each, at
         once when the switch is thrown already; they must not block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from millstream.errors import CancelledError


class CancelSignal:
    """Thrown once, never reset."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call back when the switch is thrown."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def raise_if_cancelled(self) -> None:
        if self._cancelled:
            raise CancelledError("query was canceled in expression evaluation")
