"""Frames of a WebSocket, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

#: The key in a scope's extensions under which the server offers an `Outlet`.
FRAMES: Final = "millstream.frames"

_SHORT: Final = 126
_MEDIUM: Final = 1 << 16


def text_frame(message: bytes) -> bytes:
    """A whole message in one frame, as a server sends it.

    Source  RFC 6455, section 5.2
    """
    size = len(message)
    if size < _SHORT:
        return b"\x81%c" % size + message
    if size < _MEDIUM:
        return b"\x81\x7e" + size.to_bytes(2, "big") + message
    return b"\x81\x7f" + size.to_bytes(8, "big") + message


class Outlet(Protocol):
    """Where frames go. Threads: event loop only; nothing blocks."""

    @property
    def is_paused(self) -> bool:
        """Whether the client is behind with reading: what is written now only waits."""

    @property
    def is_open(self) -> bool:
        """Whether anything that is written can still arrive."""

    def write_frames(self, frames: bytes) -> None:
        """Write whole frames."""

    def on_resume(self, callback: Callable[[], None]) -> None:
        """Call back when the client has caught up; at most one callback is kept."""

    async def drain(self) -> None:
        """Return when the client has caught up, or is gone."""

    def abort(self) -> None:
        """Close without another word."""
