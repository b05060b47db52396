"""Mixed load for minutes on end: whether the server's memory stays flat, and every answer is the expected one.

    python -m benchmarks.python.soak [--minutes 10]

Writers send remote write, JSON, Influx lines, text and broken bodies for a fixed set of series whose time runs ahead, so
that blocks are written and merged meanwhile; readers query, one of them what is too expensive; one client connects anew
for each request and one leaves before its answer. The memory of the last third of the time is compared with that of the
third before it: exit code 1 when it has grown by more than a tenth, or when an answer was none of those expected.
"""

from __future__ import annotations

import argparse
import itertools
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.python.gateway_cost_bench import bodies
from benchmarks.python.json_bench import KEY, METRICS
from benchmarks.python.machine import commit, machine
from tests.services.http import Client
from tests.services.millstream import Millstream

_BASE_MS = 1_732_000_000_000
_STEP_MS = 15_000
_SERIES = 500
_GROWTH_MAX = 1.10
_SAMPLE_SECONDS = 2.0
_AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}


class Load:
    """What the clients share. Threads: all."""

    def __init__(self, url: str, until: float) -> None:
        self.url = url
        self.until = until
        self._lock = threading.Lock()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.unexpected: list[str] = []

    def note(self, name: str, status: int, expected: tuple[int, ...], text: str) -> None:
        with self._lock:
            self.answers[name, status] += 1
            if status not in expected and len(self.unexpected) < 20:
                self.unexpected.append(f"{name}: {status} {text[:200]}")


def json_request(host: int, number: int) -> bytes:
    metrics = ",".join(
        f'{{"name":"bench_{metric}","value":{number}.5,"timestamp":{_BASE_MS + number},'
        f'"labels":{{"host":"h{host}","dc":"eu"}}}}'
        for metric in range(METRICS)
    )
    body = f'{{"metrics":[{metrics}]}}'.encode()
    return (
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
        % (KEY.encode(), len(body), body)
    )


def influx_request(host: int, number: int) -> bytes:
    body = "".join(
        f"bench_{metric},host=h{host},dc=eu value={number}.5 {_BASE_MS + number}\n"
        for metric in range(METRICS)
    ).encode()
    return (
        b"POST /write?precision=ms HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def raw(url: str, request: bytes) -> int:
    """The status of a request that is sent as it is on a connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        return int(connection.recv(65536)[9:12])


def writer(load: Load) -> None:
    """Remote write; the time of its series goes on by a scrape with each request."""
    headers = {**_AUTHORIZATION, "Content-Type": "application/x-protobuf"}
    headers["Content-Encoding"] = "snappy"
    with Client(load.url) as client:
        for first in itertools.count(0, 50):
            for body in bodies(_SERIES, first, 50):
                answer = client.request("POST", "/api/v1/write", body=body, headers=headers)
                load.note("remote write", answer.status, (204,), answer.text)
                if time.monotonic() > load.until:
                    return


def small_writer(load: Load) -> None:
    """JSON, Influx lines, text, and what is none of them, each on a new connection."""
    for number in itertools.count():
        load.note("json", raw(load.url, json_request(1, number)), (200,), "")
        lines = influx_request(2, number).replace(
            b"Host: localhost\r\n",
            b"Host: localhost\r\nAuthorization: Bearer %s\r\n" % KEY.encode(),
        )
        load.note("influx", raw(load.url, lines), (204,), "")
        load.note(
            "broken", raw(load.url, json_request(1, number).replace(b"]}", b"]]")), (400,), ""
        )
        anonymous = json_request(1, number).replace(KEY.encode(), b"ms_wrong")
        load.note("stranger", raw(load.url, anonymous), (401, 429), "")
        with Client(load.url) as client:
            text = f'soak_text{{n="{number % 50}"}} {number}\n'.encode()
            answer = client.request(
                "POST", "/api/v1/import/prometheus", body=text, headers=_AUTHORIZATION
            )
            load.note("text", answer.status, (200,), answer.text)
        if time.monotonic() > load.until:
            return


def reader(load: Load) -> None:
    chooser = random.Random(1)
    with Client(load.url) as client:
        while time.monotonic() < load.until:
            now = _BASE_MS / 1000 + chooser.randrange(0, 40_000)
            expression, expected = chooser.choice(
                (
                    ("sum(rate(http_requests_total[5m]))", (200,)),
                    ("topk(5, http_requests_total)", (200,)),
                    ("quantile_over_time(0.9, http_requests_total[10m])", (200,)),
                    ("sum(rate(", (400,)),
                    ('count({__name__=~".+"})', (200,)),
                )
            )
            form = f"query={expression}&start={now - 3600}&end={now}&step=60".replace("+", "%2B")
            answer = client.request(
                "POST",
                "/api/v1/query_range",
                body=form.encode(),
                headers={**_AUTHORIZATION, "Content-Type": "application/x-www-form-urlencoded"},
            )
            load.note("query", answer.status, expected, answer.text)


def leaver(load: Load) -> None:
    """Asks for much and leaves before it comes."""
    host, port = load.url.removeprefix("http://").split(":")
    request = (
        "GET /api/v1/query_range?query=http_requests_total&start=1732000000&end=1732036000&step=15 "
        f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    )
    while time.monotonic() < load.until:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(request.encode())
            connection.recv(1)
        load.note("left", 0, (0,), "")


def memory_mb(process: psutil.Process, load: Load) -> list[float]:
    found = []
    while time.monotonic() < load.until:
        found.append(process.memory_info().rss / 1e6)
        time.sleep(_SAMPLE_SECONDS)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    environment = {
        "MILLSTREAM_AUTH__ADMIN_KEY": KEY,
        "MILLSTREAM_LIMITS__JSON_REQUESTS_PER_SECOND": "1000000",
        "MILLSTREAM_STORAGE__RETENTION": "100y",
    }
    with tempfile.TemporaryDirectory(prefix="millstream-soak-") as scratch:
        root = Path(scratch)
        with Millstream(root / "data", root / "log", env=environment) as server:
            load = Load(server.url, time.monotonic() + arguments.minutes * 60)
            clients: tuple[Callable[[Load], None], ...] = (writer, small_writer, reader, leaver)
            threads = [threading.Thread(target=client, args=(load,)) for client in clients]
            for thread in threads:
                thread.start()
            memory = memory_mb(psutil.Process(server.pid), load)
            for thread in threads:
                thread.join()
    third = len(memory) // 3
    before, after = memory[third : 2 * third], memory[2 * third :]
    growth = statistics.mean(after) / statistics.mean(before)
    print(f"commit {commit()} on {machine()}")
    for (name, status), count in sorted(load.answers.items()):
        print(f"{name:14} {status:4} {count:10,}")
    print(f"memory in MB: first {memory[0]:.0f}, most {max(memory):.0f}, last {memory[-1]:.0f}")
    print(f"the last third beside the one before: {growth:.3f}, at most {_GROWTH_MAX}")
    for line in load.unexpected:
        print(f"unexpected: {line}")
    return 1 if load.unexpected or growth > _GROWTH_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
