"""What a child of ``os.fork`` has of its parent's objects: nothing that works, nothing that harms.

Threads do not come along into a child, and what they held locked stays locked. So there every object
that has threads of its own, here or in the core, gets an `Inherited` in place of what would need
them. The handle of the core itself is never let go of: to close it is to wait for its threads.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from types import TracebackType
from typing import Any, Final, NoReturn

from millstream.errors import UnavailableError


class Inherited:
    """In the place of a handle whose threads are in process ``opener``. To close it does nothing."""

    def __init__(self, opener: int) -> None:
        self._opener = opener

    def close(self) -> None:
        """Nothing: it is the other process's to close."""

    def __enter__(self) -> NoReturn:
        raise self._error()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._error()

    def _error(self) -> UnavailableError:
        return UnavailableError(f"opened by process {self._opener}; open it anew after fork")


_watched: Final[weakref.WeakKeyDictionary[Any, tuple[str, ...]]] = weakref.WeakKeyDictionary()
_pid = os.getpid()


def watch(owner: object, *handles: str) -> None:
    """Have these attributes of an object taken away from it in children of this process."""
    _watched[owner] = handles


def _after_in_child() -> None:
    global _pid
    opener, _pid = _pid, os.getpid()
    for owner, names in list(_watched.items()):
        for name in names:
            handle = vars(owner).get(name)
            if handle is not None and not isinstance(handle, Inherited):
                # One reference more than there are: no destructor runs, not even when Python ends.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
                setattr(owner, name, Inherited(opener))


os.register_at_fork(after_in_child=_after_in_child)
