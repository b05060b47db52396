"""Small JSON writes over kept connections, signed in: requests a second, how long they take, what they cost.

    python -m benchmarks.python.json_bench [--connections 64] [--seconds 5] [--rounds 3]
        [--victoria-metrics BINARY]

Each request brings ten metrics of one host, each time with a new timestamp, and the next one of its connection is sent
when it was answered. The limit of JSON requests is raised, not turned off. The load generator is a process of its own and
takes its share of the same cores; what the server's process spent for each request does not depend on it. With a
VictoriaMetrics binary that one gets the same rows as Influx lines, in turns, and without authentication.
"""

from __future__ import annotations

import argparse
import multiprocessing
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.python.http_bench import processor_seconds
from benchmarks.python.machine import commit, machine
from tests.services.http import Client
from tests.services.millstream import Millstream

METRICS = 10
KEY = "ms_benchmark_0123456789abcdef0123456789abcdef"
_BASE_MS = 1_732_000_000_000


@dataclass(frozen=True)
class Target:
    """A server, and how it wants its rows: a function of host and round that makes a request."""

    name: str
    url: str
    pid: int
    request: Callable[[int, int], bytes]


@dataclass(frozen=True)
class Measured:
    """One run against one server."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


class _Connection:
    """One kept connection: a request out, its answer in, and so on."""

    def __init__(self, address: tuple[str, int], number: int) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = number
        self.round = 0
        self.sent_at = 0.0
        self._received = b""

    def send(self, make: Callable[[int, int], bytes]) -> None:
        request = make(self.number, self.round)
        self.round += 1
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Whether the answer is whole now; raises when it is not a good one."""
        self._received += self.socket.recv(65536)
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return False
        if head[9:12] not in (b"200", b"204"):
            raise RuntimeError(self._received[:500].decode(errors="replace"))
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if len(body) < length:
            return False
        self._received = b""
        return True


def generate(
    url: str, make: Callable[[int, int], bytes], connections: int, seconds: float
) -> tuple[float, list[float]]:
    """Keeps every connection busy for so long; the seconds that it took and each request's time."""
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    taken: list[float] = []
    with selectors.DefaultSelector() as selector:
        for number in range(connections):
            connection = _Connection(address, number)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(make)
        began = time.perf_counter()
        end = began + seconds
        while (now := time.perf_counter()) < end:
            for key, _ in selector.select(timeout=1.0):
                connection = key.data
                if connection.receive():
                    taken.append(time.perf_counter() - connection.sent_at)
                    connection.send(make)
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return now - began, taken


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


def measure(target: Target, connections: int, seconds: float) -> Measured:
    before = processor_seconds(target.pid)
    with multiprocessing.get_context("fork").Pool(1) as generator:
        took, taken = generator.apply(generate, (target.url, target.request, connections, seconds))
    spent = processor_seconds(target.pid) - before
    taken.sort()
    return Measured(
        requests_per_second=len(taken) / took,
        p50_ms=taken[len(taken) // 2] * 1e3,
        p99_ms=taken[len(taken) * 99 // 100] * 1e3,
        cpu_us=spent / len(taken) * 1e6,
    )


@contextmanager
def victoria_metrics(binary: Path, data: Path) -> Iterator[Target]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            binary,
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-storageDataPath={data}",
            "-retentionPeriod=100y",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with Client(url) as client:
                    if client.get("/health").status == 200:
                        break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield Target("VictoriaMetrics", url, process.pid, influx_request)
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--victoria-metrics", type=Path, metavar="BINARY")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as scratch, ExitStack() as servers:
        root = Path(scratch)
        environment = {
            "MILLSTREAM_AUTH__ADMIN_KEY": KEY,
            "MILLSTREAM_LIMITS__JSON_REQUESTS_PER_SECOND": "1000000",
        }
        server = servers.enter_context(Millstream(root / "data", root / "log", env=environment))
        targets = [Target("Millstream", server.url, server.pid, json_request)]
        if arguments.victoria_metrics:
            rival = victoria_metrics(arguments.victoria_metrics, root / "rival")
            targets.append(servers.enter_context(rival))
        found: dict[str, list[Measured]] = {target.name: [] for target in targets}
        for _ in range(arguments.rounds):
            for target in targets:
                found[target.name].append(measure(target, arguments.connections, arguments.seconds))
        print(f"commit {commit()} on {machine()}")
        print(
            f"medians of {arguments.rounds}; {arguments.connections} connections, {METRICS} metrics a request"
        )
        for name, runs in found.items():
            rate = statistics.median(run.requests_per_second for run in runs)
            p50 = statistics.median(run.p50_ms for run in runs)
            p99 = statistics.median(run.p99_ms for run in runs)
            cpu = statistics.median(run.cpu_us for run in runs)
            print(
                f"{name:16} {rate:8,.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms"
                f"   {cpu:6.1f} us of processor time a request"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
