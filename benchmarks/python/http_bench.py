"""Remote write and range queries over HTTP: Millstream beside a real Prometheus, in the same run.

    python -m benchmarks.python.http_bench [--rounds 5] [--output FILE.json]

Both servers get the same bytes over the same number of connections, and answer the same queries over 1,000 series of
one hour; their turns alternate, so that what else the machine does meets both. Printed are medians, and the ratio in
which more than 1 means that Millstream is faster. Answers are compared before they are timed.

Remote write is measured in two shapes of request, both of 2,000 samples as Prometheus sends by default: `backlog`, some
samples of each of few series, as after an interruption, and `scrape`, one sample of each of many, as from day to day.
Besides samples a second, which the load generator and whatever else runs here slow down for both, it says what the
server's own process spent: samples for each second of processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.python.machine import commit, machine
from tests.services import artifacts, promql
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.prometheus import Prometheus, PrometheusConfig
from tests.services.remote_write import (
    Sample,
    Series,
    compress,
    encode_request,
    post,
    sorted_labels,
)

SERIES = 1_000
HOUR_MS = 3_600_000
INTERVAL_MS = 15_000
CONNECTIONS = 4
# As Prometheus sends by default.
SAMPLES_PER_REQUEST = 2_000
QUERIES = {
    "raw": "{metric}",
    "rate": "rate({metric}[5m])",
    "sum by (rate)": "sum by (dc) (rate({metric}[5m]))",
    "quantile over time": "quantile_over_time(0.9, {metric}[5m])",
}
ROUNDS_MIN = 3
Server = Millstream | Prometheus


@dataclass(frozen=True)
class Result:
    """One line of the report; `unit` says whether more or less is better."""

    name: str
    unit: str
    millstream: float
    prometheus: float

    @property
    def ratio(self) -> float:
        """How many times faster Millstream is."""
        if self.unit == "ms":
            return self.prometheus / self.millstream
        return self.millstream / self.prometheus


@dataclass(frozen=True)
class Shape:
    """Which samples a round of remote write has; each connection sends its own share of the series."""

    name: str
    series: int
    steps: int

    @property
    def samples(self) -> int:
        return self.series * self.steps


# The first one's samples are those that the queries read.
SHAPES = (
    Shape("backlog", SERIES, HOUR_MS // INTERVAL_MS),
    Shape("scrape", CONNECTIONS * SAMPLES_PER_REQUEST, 12),
)


def requests_for(shape: Shape, metric: str, end_ms: int, connection: int) -> list[bytes]:
    """One connection's share: its own series, oldest samples first."""
    own = range(connection, shape.series, CONNECTIONS)
    stamps = range(end_ms - (shape.steps - 1) * INTERVAL_MS, end_ms + 1, INTERVAL_MS)
    per_series = max(1, SAMPLES_PER_REQUEST // len(own))
    labels = {
        number: sorted_labels(
            metric,
            dc=f"dc{number % 4}",
            host=f"host-{number:04}",
            instance=f"10.0.{number // 256}.{number % 256}:9100",
            job="bench",
        )
        for number in own
    }
    bodies = []
    for first in range(0, len(stamps), per_series):
        some = stamps[first : first + per_series]
        bodies.append(
            compress(
                encode_request(
                    Series(
                        labels[number],
                        [
                            Sample.of(stamp, (stamp - end_ms + HOUR_MS) * 0.001 * (number + 1))
                            for stamp in some
                        ],
                    )
                    for number in own
                )
            )
        )
    return bodies


def send_all(url: str, shares: Sequence[Sequence[bytes]]) -> float:
    """Sends every share over a connection of its own, and returns the seconds that it took."""
    failures: list[str] = []
    gate = threading.Barrier(len(shares) + 1)

    def send(bodies: Sequence[bytes]) -> None:
        with Client(url) as client:
            client.get("/-/ready")
            gate.wait()
            for body in bodies:
                response = post(client, body)
                if response.status not in (200, 204):
                    failures.append(f"{url}: {response.status} {response.text[:300]}")
                    return

    threads = [threading.Thread(target=send, args=(bodies,)) for bodies in shares]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failures:
        raise RuntimeError(failures[0])
    return took


def seconds_to_answer(client: Client, query: promql.Query) -> float:
    """From sending the query to the last byte of its answer, which is not parsed here."""
    began = time.perf_counter()
    response = promql.send(client, query)
    took = time.perf_counter() - began
    if response.status != 200:
        raise RuntimeError(f"{client.base_url}: {response.status} {response.text[:300]}")
    return took


def processor_seconds(pid: int) -> float:
    """The processor time of a process and all threads that it ever had."""
    # The kernel's number for another process's clock, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | 2)


def bench_remote_write(
    shape: Shape, servers: dict[str, Server], rounds: int, end_ms: int
) -> list[Result]:
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    processor: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(rounds):
        metric = f"{shape.name}_{number}"
        shares = [requests_for(shape, metric, end_ms, share) for share in range(CONNECTIONS)]
        for name, server in servers.items():
            before = processor_seconds(server.pid)
            seconds[name].append(send_all(server.url, shares))
            processor[name].append(processor_seconds(server.pid) - before)
    results = []
    for unit, taken in (("samples/s", seconds), ("samples/CPU s", processor)):
        rate = {name: shape.samples / statistics.median(own) for name, own in taken.items()}
        results.append(
            Result(f"remote write, {shape.name}", unit, rate["millstream"], rate["prometheus"])
        )
    return results


def bench_query(
    name: str, expr: str, servers: dict[str, Server], rounds: int, end_ms: int
) -> Result:
    # One step before the data's end and five minutes after its begin, so that every window is full.
    query = promql.Range(expr, end_ms - HOUR_MS + 300_000, end_ms, INTERVAL_MS)
    seconds: dict[str, list[float]] = {server: [] for server in servers}
    with ExitStack() as connections:
        clients = {
            name: connections.enter_context(Client(server.url)) for name, server in servers.items()
        }
        answers = {server: promql.ask(client, query) for server, client in clients.items()}
        found = promql.compare(query, answers["prometheus"], answers["millstream"])
        if found.differences or found.points == 0:
            raise RuntimeError(f"the answers differ, or are empty: {found.differences[:1]}")
        for _ in range(rounds):
            for server, client in clients.items():
                seconds[server].append(seconds_to_answer(client, query))
    median = {server: statistics.median(taken) * 1000 for server, taken in seconds.items()}
    return Result(f"query_range: {name}", "ms", median["millstream"], median["prometheus"])


def run(rounds: int) -> list[Result]:
    """Starts both servers, measures, and stops them."""
    end_ms = time.time_ns() // 1_000_000 // INTERVAL_MS * INTERVAL_MS
    with (
        tempfile.TemporaryDirectory(prefix="millstream-bench-") as scratch,
        ExitStack() as services,
    ):
        root = Path(scratch)
        config = PrometheusConfig(scrape_itself=False)
        servers: dict[str, Server] = {
            "millstream": services.enter_context(Millstream(root / "data", root / "millstream")),
            "prometheus": services.enter_context(
                Prometheus(root / "prometheus", config, receive_remote_write=True)
            ),
        }
        results = []
        for shape in SHAPES:
            results += bench_remote_write(shape, servers, rounds, end_ms)
        metric = f"{SHAPES[0].name}_0"
        for name, expr in QUERIES.items():
            results.append(bench_query(name, expr.format(metric=metric), servers, rounds, end_ms))
        return results


def main() -> int:
    """Prints the report; with --output also writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rounds", type=int, default=5, help="measurements of each kind (default 5)"
    )
    parser.add_argument("--output", type=Path, help="also write the results to this file, as JSON")
    arguments = parser.parse_args()
    if arguments.rounds < ROUNDS_MIN:
        parser.error(f"a median of fewer than {ROUNDS_MIN} rounds says little")
    where = {
        "commit": commit(),
        "machine": machine(),
        "rival": f"Prometheus {artifacts.PROMETHEUS.version}",
    }
    results = run(arguments.rounds)
    print(f"commit {where['commit']} on {where['machine']}")
    print(
        f"medians of {arguments.rounds}; {SERIES} series of 1 h every {INTERVAL_MS // 1000} s, {CONNECTIONS} connections"
    )
    print(f"{'':38}{'Millstream':>14}{where['rival']:>24}{'ratio':>8}")
    for result in results:
        name = f"{result.name} ({result.unit})"
        print(
            f"{name:38}{result.millstream:>14,.1f}{result.prometheus:>24,.1f}{result.ratio:>8.2f}"
        )
    if arguments.output:
        document = {
            **where,
            "rounds": arguments.rounds,
            "results": [asdict(result) for result in results],
        }
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
