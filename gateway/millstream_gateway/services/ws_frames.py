"""Where the frames of a WebSocket go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    @property
    def descriptor(self) -> int:
        """The socket, good until the loop goes on, when frames may go right into it.

        -1 when something waits to be written before them, and when they are to be encrypted.
        """

    def write_frames(self, frames: bytes) -> None:
        """Write whole frames."""

    def on_resume(self, callback: Callable[[], None]) -> None:
        """Call back when the client has caught up; at most one callback is kept."""

    async def drain(self) -> None:
        """Return when the client has caught up, or is gone."""

    def abort(self) -> None:
        """Close without another word."""


#: Writes the same to all of these sockets without waiting; of each that did not take all of it its
#: place among them, and how many bytes it took.
SendToAll = Callable[[Sequence[int], bytes], Sequence[tuple[int, int]]]


def write_to_all(outlets: Sequence[Outlet], frames: bytes, send: SendToAll) -> None:
    """Write the same frames to each, with nothing but a system call for those who keep up."""
    direct: list[Outlet] = []
    sockets: list[int] = []
    for outlet in outlets:
        descriptor = outlet.descriptor
        if descriptor < 0:
            outlet.write_frames(frames)
        else:
            direct.append(outlet)
            sockets.append(descriptor)
    for at, taken in send(sockets, frames):
        direct[at].write_frames(frames[taken:])
