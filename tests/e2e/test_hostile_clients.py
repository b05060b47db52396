"""Clients that mean harm against the real server: each is answered or cut off, and memory stays bounded."""

from __future__ import annotations

import contextlib
import gzip
import re
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.process import wait_until

pytestmark = pytest.mark.e2e
MIB = 1 << 20
IDLE = 10_000
DEADLINE_SECONDS = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The server inherits it. Root may raise the hard one, too.
    wanted = 4 * IDLE
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    folder = tmp_path_factory.mktemp("hostile")
    environment = {
        "MILLSTREAM_SERVER__CONNECTIONS_MAX": str(2 * IDLE),
        "MILLSTREAM_SERVER__BACKLOG": "4096",
        "MILLSTREAM_SERVER__HEADER_TIMEOUT": "30s",
        "MILLSTREAM_SERVER__BODY_TIMEOUT": "1s",
        "MILLSTREAM_SERVER__WRITE_TIMEOUT": "1s",
        "MILLSTREAM_LIMITS__JSON_REQUESTS_PER_SECOND": "0",
        "MILLSTREAM_LIMITS__INGEST_QUEUE": "1000",
    }
    with Millstream(folder / "data", folder / "logs", env=environment) as service:
        # What the first request of each kind loads once is no part of what is measured.
        assert status_of(service, "/health") == 200
        assert status_of(service, "/openapi.json") == 200
        yield service
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(soft, hard)))


def rss(service: Millstream) -> int:
    text = Path(f"/proc/{service.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


def status_of(service: Millstream, path: str) -> int:
    with Client(service.url, DEADLINE_SECONDS) as client:
        return client.get(path).status


def connect(service: Millstream, *, receive_bytes: int = 0) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(DEADLINE_SECONDS)
    connection.connect((host, int(port)))
    return connection


def answer_of(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def own_metric(service: Millstream, name: str) -> float:
    with Client(service.url, DEADLINE_SECONDS) as client:
        text = client.get("/metrics").text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def test_ten_thousand_idle_connections_cost_little_and_hold_nobody_up(server: Millstream) -> None:
    before = rss(server)
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(connect(server))
        assert status_of(server, "/health") == 200
        assert status_of(server, "/-/ready") == 200
        grown = rss(server) - before
    assert grown < IDLE * 20 * 1024, f"{grown / IDLE:.0f} bytes for each connection"
    assert status_of(server, "/health") == 200


def test_slow_bodies_are_408_and_hold_nothing(server: Millstream) -> None:
    before = rss(server)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(300)]
        for connection in slow:
            connection.sendall(
                b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{"
            )
        assert status_of(server, "/health") == 200
        for connection in slow:
            assert answer_of(connection).startswith(b"HTTP/1.1 408 ")
    assert rss(server) - before < 64 * MIB


def test_clients_that_never_read_are_cut_off(server: Millstream) -> None:
    before = rss(server)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(connect(server, receive_bytes=4096))
            connection.setblocking(False)
            # Many large answers are asked for, and none is read.
            requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 500
            with contextlib.suppress(BlockingIOError, ConnectionError):
                connection.send(requests)
        assert status_of(server, "/health") == 200
        # The one in flight is the one that asks.
        wait_until(
            "all were cut off",
            DEADLINE_SECONDS,
            lambda: own_metric(server, "millstream_http_requests_in_flight") == 1,
        )
        assert rss(server) - before < 128 * MIB
    assert status_of(server, "/health") == 200


def test_a_pipeline_without_end_is_served_in_turn_and_starves_nobody(server: Millstream) -> None:
    before = rss(server)
    with connect(server) as connection:
        connection.setblocking(False)
        requests = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000
        sent, until = 0, time.monotonic() + 3
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                sent += connection.send(requests[sent % len(requests) :])
            # Nothing is read; everybody else is answered.
            assert status_of(server, "/health") == 200
    assert sent < 64 * MIB
    assert rss(server) - before < 64 * MIB


def test_a_gzip_bomb_is_413_however_often_it_comes(server: Millstream) -> None:
    bomb = gzip.compress(b"\0" * (256 * MIB), 1)
    assert len(bomb) < 4 * MIB
    before, most = rss(server), 0
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    def throw(_number: int) -> int:
        with Client(server.url, DEADLINE_SECONDS) as client:
            return client.request("POST", "/metrics", body=bomb, headers=headers).status

    with ThreadPoolExecutor(4) as clients:
        for status in clients.map(throw, range(12)):
            assert status == 413
            most = max(most, rss(server))
    # Four threads unpack at a time, each to json_bytes at most; twice for the growing of a buffer.
    assert most - before < 200 * MIB


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 2_000_000, 431),
        (b"GET /health HTTP/1.1\r\n" + b"X-Many: a\r\n" * 200_000, 431),
        (b"GET /api/v1/query?query=" + b"1" * 400_000 + b" HTTP/1.1\r\n\r\n", 431),
        (
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 2\r\n\r\n{}",
            415,
        ),
        (
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\n"
            b"Content-Length: 2\r\n\r\n{}",
            415,
        ),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ],
)
def test_what_is_too_large_or_of_no_known_kind_is_told_so(
    server: Millstream, request_text: bytes, status: int
) -> None:
    before = rss(server)
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request_text)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        assert answer_of(connection).startswith(b"HTTP/1.1 %d " % status)
    assert rss(server) - before < 32 * MIB
