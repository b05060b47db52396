"""An HTTP proxy that misbehaves as a script says: for clients that have to live with it.

Every POST takes the next fault of the script; when the script is over, all pass. What reached the server is counted, so
a test can tell "sent twice" from "stored twice".
"""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

_HOP_BY_HOP: Final = {"connection", "content-length", "transfer-encoding", "date", "server"}


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    ``drop`` closes the connection: ``before`` the server sees the request, or ``after`` it handled it, when only the
    answer is lost. ``status`` is answered by the proxy itself.
    """

    drop: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"the proxy has a bad day"


PASS: Final = Fault()
DROP_BEFORE: Final = Fault(drop="before")
DROP_AFTER: Final = Fault(drop="after")


class FlakyProxy:
    """Listens on a free loopback port in front of one server. ``rewrite`` makes of a body what is sent on."""

    def __init__(
        self,
        upstream: str,
        script: Iterable[Fault] = (),
        *,
        rewrite: Callable[[bytes], bytes] = bytes,
    ) -> None:
        parts = urllib.parse.urlsplit(upstream)
        self._upstream = (str(parts.hostname), int(parts.port or 80))
        self._lock = threading.Lock()
        self._script = list(script)
        self._rewrite = rewrite
        self.is_down = False
        self.seen: list[str] = []
        self.forwarded: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._handle(self, PASS)

            def do_POST(self) -> None:
                proxy._handle(self, proxy._next_fault(self.path))

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def script(self, faults: Iterable[Fault]) -> None:
        """What is to happen next."""
        with self._lock:
            self._script += faults

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next_fault(self, path: str) -> Fault:
        with self._lock:
            self.seen.append(path)
            if self.is_down:
                return Fault(status=503)
            return self._script.pop(0) if self._script else PASS

    def _handle(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        if fault.drop == "before":
            handler.close_connection = True
            return
        if fault.status:
            self._answer(handler, fault.status, fault.headers, fault.body)
            return
        with self._lock:
            self.forwarded.append(handler.path)
        upstream = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            sent = {
                name: value
                for name, value in handler.headers.items()
                if name not in ("Host", "Content-Length")
            }
            body = self._rewrite(body)
            upstream.request(handler.command, handler.path, body=body or None, headers=sent)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if fault.drop == "after":
            handler.close_connection = True
            return
        kept = {name: text for name, text in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        self._answer(handler, answer.status, kept, content)

    def _answer(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if status != 204:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if status != 204:
            handler.wfile.write(body)
