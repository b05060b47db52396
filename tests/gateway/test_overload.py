"""More writes than can be stored: the rest is told so at once, and whoever runs the server gets in."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.settings import AuthSettings, LimitsSettings, ServerSettings, Settings
from tests.gateway.access_support import ROOT, ROOT_KEY

Serve = Callable[[Settings, Backend], int]
THREADS, QUEUE = 2, 3
CAPACITY = THREADS + QUEUE
DEADLINE_SECONDS = 30


class BlockedBackend(FakeBackend):
    """Stores nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.began = threading.Semaphore(0)

    def push(self, tenant: TenantId, write: WriteBody) -> PushOutcome:
        self.began.release()
        assert self.go_on.wait(DEADLINE_SECONDS)
        return super().push(tenant, write)


def ask(
    port: int, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers={**ROOT, **headers})
        answer = connection.getresponse()
        text = answer.read()
    return answer.status, {key.lower(): value for key, value in answer.getheaders()}, text


def item(number: int) -> bytes:
    return json.dumps({"metrics": [{"name": f"accepted_{number}", "value": number}]}).encode()


def write_alone(port: int, number: int) -> tuple[int, dict[str, str], Any]:
    """A write that takes a place of its own; small plain ones share places."""
    return ask(
        port, "POST", "/metrics", gzip.compress(item(number)), **{"Content-Encoding": "gzip"}
    )


def write_shared(port: int, number: int) -> tuple[int, dict[str, str], Any]:
    return ask(port, "POST", "/metrics", item(number))


def overloaded() -> Settings:
    return Settings(
        auth=AuthSettings(admin_key=ROOT_KEY),
        server=ServerSettings(body_timeout="10m"),
        limits=LimitsSettings(
            ingest_threads=THREADS, ingest_queue=QUEUE, json_requests_per_second=0
        ),
    )


def test_past_the_queue_writes_are_refused_while_the_rest_waits_and_nothing_is_lost(
    serve_live: Serve,
) -> None:
    backend = BlockedBackend()
    port = serve_live(overloaded(), backend)
    with ThreadPoolExecutor(CAPACITY) as clients:
        waiting = [clients.submit(write_alone, port, number) for number in range(CAPACITY)]
        for _ in range(THREADS):
            assert backend.began.acquire(timeout=DEADLINE_SECONDS)

        def is_full() -> bool:
            status, _, text = ask(port, "GET", "/metrics")
            assert status == 200
            return f'millstream_pool_calls{{pool="ingest"}} {CAPACITY}.0' in text.decode()

        while not is_full():
            assert not any(one.done() for one in waiting)
        # The flood. Nothing has been stored yet, so no answer here waited for anything.
        for number in range(200):
            write = write_alone if number % 2 else write_shared
            status, headers, text = write(port, 1000 + number)
            assert status == 503
            assert headers["retry-after"] == "1"
            assert b"ingest calls" in text
            if number % 20 == 0:
                for path in ("/health", "/-/ready", "/metrics", "/v1/admin/keys"):
                    assert ask(port, "GET", path)[0] == 200
        assert not any(one.done() for one in waiting)
        backend.go_on.set()
        for one in waiting:
            status, _, text = one.result(DEADLINE_SECONDS)
            assert (status, json.loads(text)["accepted"]) == (200, 1)
    _, _, text = ask(port, "GET", "/api/v1/label/__name__/values")
    assert json.loads(text)["data"] == [f"accepted_{number}" for number in range(CAPACITY)]
    assert write_shared(port, CAPACITY)[0] == 200


def test_a_write_is_refused_before_its_body_is_read(serve_live: Serve) -> None:
    backend = BlockedBackend()
    port = serve_live(overloaded(), backend)
    with ThreadPoolExecutor(CAPACITY) as clients:
        waiting = [clients.submit(write_alone, port, number) for number in range(CAPACITY)]
        while f'ingest"}} {CAPACITY}.0' not in ask(port, "GET", "/metrics")[2].decode():
            assert not any(one.done() for one in waiting)
        with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as connection:
            # A million bytes are promised, and none comes.
            connection.sendall(
                b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                b"Authorization: Bearer " + ROOT_KEY.encode() + b"\r\n\r\n"
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
        backend.go_on.set()
        assert [one.result(DEADLINE_SECONDS)[0] for one in waiting] == [200] * CAPACITY
