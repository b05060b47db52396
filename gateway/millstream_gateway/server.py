"""Runs the application: binds, says so in one line, serves, and stops in good order."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from millstream.errors import FailedPreconditionError
from millstream_gateway.app import create_app
from millstream_gateway.backends.choice import make_backend
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.http_protocol import bounded_protocol
from millstream_gateway.logs import configure_logs
from millstream_gateway.services.access import AccessControl
from millstream_gateway.services.container import Services
from millstream_gateway.settings import Settings

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """Says when it is ready, and treats SIGTERM and SIGINT as the usual way to end."""

    def __init__(self, config: uvicorn.Config, when_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._when_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                # uvicorn would raise the signal again and so turn an orderly end into a death
                # by signal; who asked the server to stop wants to see exit code 0.
                self._captured_signals.clear()


def serve(settings: Settings, backend: Backend | None = None) -> bool:
    """Serve until SIGTERM or SIGINT; whether the stop could flush everything.

    Prints exactly one line to standard output, when requests are answered. Raises a class of
    `millstream.errors` when the port or the data folder cannot be had.
    """
    configure_logs(settings.log)
    check_exposure(settings)
    listener = _listen(settings)
    try:
        backend = backend or make_backend(settings)
        # Opened here and not first in the application's start, so that a folder in use or a corrupt
        # file is one clear line and not a stack trace from the depths of the server.
        backend.open()
        try:
            return _run(settings, backend, listener)
        finally:
            backend.close()
    finally:
        listener.close()


def check_exposure(settings: Settings) -> None:
    """Raise `FailedPreconditionError` when the server would be open to other machines."""
    access = AccessControl(settings)
    access.open()
    try:
        access.check_exposure()
    finally:
        access.close()


def _run(settings: Settings, backend: Backend, listener: socket.socket) -> bool:
    server = settings.server
    app = create_app(settings, backend)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(
            header_bytes_max=settings.limits.header_bytes,
            header_timeout_ms=server.header_timeout,
        ),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=server.backlog,
        limit_concurrency=server.connections_max,
        timeout_keep_alive=server.keep_alive // 1000,
        timeout_graceful_shutdown=max(1, server.shutdown_grace // 1000),
    )
    url = _url(listener)

    def say_ready() -> None:
        sys.stdout.write(f"Millstream is ready at {url}\n")
        sys.stdout.flush()

    _Server(config, say_ready).run(sockets=[listener])
    services: Services = app.state.services
    return services.stop_error is None


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.server.host.strip("[]"), settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise FailedPreconditionError(
            f"cannot listen on {host} port {port}: {error.strerror}"
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
