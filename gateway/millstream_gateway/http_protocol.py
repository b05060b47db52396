"""uvicorn's HTTP/1.1 protocol with the bounds that it lacks: size and time of headers, time to read.

Without them one slow or endless request head, or one client that never reads its answer, holds a
connection, and its memory, for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: In a scope's state when the whole body is there: whoever reads it needs no deadline.
BODY_AT_HAND: Final = "body_at_hand"

#: httptools counts within an URL in 16 bits, and calls a longer one no URL at all.
_URL_BYTES_MAX: Final = 65_535
#: Requests that a client may send ahead of their turn: each takes some kilobytes until it is answered.
_PIPELINE_MAX: Final = 64
_HEAD_STEP_BYTES: Final = 4096


def bounded_protocol(
    *, header_bytes_max: int, header_timeout_ms: int, write_timeout_ms: int
) -> type[HttpToolsProtocol]:
    """A protocol class for `uvicorn.Config(http=…)`."""

    class BoundedProtocol(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._header_bytes = 0
            self._header_deadline: asyncio.TimerHandle | None = None
            self._write_deadline: asyncio.TimerHandle | None = None
            self._in_headers = True
            self._unfed = b""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._arm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            self._disarm_write()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._arm_write()

        def resume_writing(self) -> None:
            super().resume_writing()
            if not self.transport.is_closing():
                self._disarm_write()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.transport.is_closing():
                self._arm_write()
            self._feed()

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._arm_write()

        def data_received(self, data: bytes) -> None:
            self._unfed += data
            self._feed()

        def _feed(self) -> None:
            """Hand the parser what came, but no more requests than may wait for their turn."""
            while self._unfed and not self.transport.is_closing():
                if len(self.pipeline) >= _PIPELINE_MAX:
                    # Goes on when an answer is complete; until then nothing more is read.
                    self.flow.pause_reading()
                    return
                size = _HEAD_STEP_BYTES if self._in_headers else len(self._unfed)
                data, self._unfed = self._unfed[:size], self._unfed[size:]
                if self._in_headers:
                    # Counted before the parser sees it: a header that never ends calls nothing back.
                    self._header_bytes += len(data)
                super().data_received(data)
                if self._in_headers and self._header_bytes > header_bytes_max:
                    self._refuse(b"431 Request Header Fields Too Large")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_headers = True
            if self._header_deadline is None:
                self._arm()

        def on_headers_complete(self) -> None:
            self._disarm()
            self._in_headers = False
            self._header_bytes = 0
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            # Before the application's task first runs, when the body came along with its headers.
            self.scope["state"][BODY_AT_HAND] = True
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            if len(self.url) > _URL_BYTES_MAX:
                self._refuse(b"431 Request Header Fields Too Large")
            else:
                super().send_400_response(msg)

        def _arm(self) -> None:
            self._header_deadline = self.loop.call_later(
                header_timeout_ms / 1000, self._refuse, b"408 Request Timeout"
            )

        def _disarm(self) -> None:
            if self._header_deadline is not None:
                self._header_deadline.cancel()
                self._header_deadline = None

        def _arm_write(self) -> None:
            """Give the client so long to read; a connection that closes waits for that, too."""
            if self._write_deadline is None:
                self._write_deadline = self.loop.call_later(
                    write_timeout_ms / 1000, self.transport.abort
                )

        def _disarm_write(self) -> None:
            if self._write_deadline is not None:
                self._write_deadline.cancel()
                self._write_deadline = None

        def _refuse(self, status: bytes) -> None:
            self._disarm()
            if not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                )
                self.transport.close()
                self._arm_write()

    return BoundedProtocol
