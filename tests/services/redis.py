"""A real Redis on a free port, with a password and TLS when the test wants them."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from tests.services.process import Process, free_port

READY_DEADLINE_SECONDS = 30.0


@dataclass(frozen=True)
class Certificates:
    """Files of one authority and one server certificate for 127.0.0.1."""

    authority: Path
    certificate: Path
    key: Path


class Redis(Process):
    """`redis-server` that keeps nothing on disk. Ready when constructed."""

    def __init__(
        self,
        log_dir: Path,
        *,
        port: int | None = None,
        password: str = "",
        tls: Certificates | None = None,
    ) -> None:
        self.port = port or free_port()
        self._tls = tls
        self._password = password
        plain, encrypted = (0, self.port) if tls else (self.port, 0)
        command: list[str | Path] = [
            *("redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
            *("--dir", log_dir, "--port", str(plain)),
        ]
        if tls:
            command += ["--tls-port", str(encrypted), "--tls-auth-clients", "no"]
            command += ["--tls-ca-cert-file", tls.authority]
            command += ["--tls-cert-file", tls.certificate, "--tls-key-file", tls.key]
        if password:
            command += ["--requirepass", password]
        log_dir.mkdir(parents=True, exist_ok=True)
        super().__init__("redis", command, log_dir)
        self.wait_ready("answers", READY_DEADLINE_SECONDS, self._answers)

    @property
    def url(self) -> str:
        """As `redis.url` wants it."""
        login = f":{self._password}@" if self._password else ""
        if self._tls:
            return f"rediss://{login}127.0.0.1:{self.port}/0?ssl_ca_certs={self._tls.authority}"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def send(self, *words: str) -> bytes:
        """Send one command without TLS or password, and return what comes back at once."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(1 << 20)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
                if self._tls is None:
                    return self._pings(plain)
                context = ssl.create_default_context(cafile=str(self._tls.authority))
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
                    return self._pings(encrypted)
        except OSError:
            return False

    @staticmethod
    def _pings(connection: socket.socket) -> bool:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(64)
        return answer.startswith((b"+PONG", b"-NOAUTH"))
