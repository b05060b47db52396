"""Where the frames of a WebSocket go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

#: The key in a scope's extensions under which the server offers an `Outlet`.
FRAMES: Final = "millstream.frames"


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
