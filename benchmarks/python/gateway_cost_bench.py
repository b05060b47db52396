"""What the gateway itself costs when it takes remote write, beside the engine that stores it; and memory at rest.

    python -m benchmarks.python.gateway_cost_bench [--samples 2000] [--requests 1500] [--rounds 3]

The same bodies go to a server over one kept connection, signed in, and to the same engine in this process. Each has one
sample of every series, at a new time. What the server's process spends beyond the engine's is the gateway's. The memory is
the server's before the first request.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.python.http_bench import processor_seconds
from benchmarks.python.json_bench import KEY
from benchmarks.python.machine import commit, machine
from millstream import _core
from tests.services.http import Client
from tests.services.millstream import Millstream

_BASE_MS = 1_732_000_000_000
_STEP_MS = 15_000


def bodies(samples: int, first: int, count: int) -> list[bytes]:
    series = [
        {"__name__": "http_requests_total", "instance": f"host-{number}:9100", "job": "node"}
        for number in range(samples)
    ]
    which = np.arange(samples, dtype=np.uint64)
    made = []
    for number in range(first, first + count):
        times = np.full(samples, _BASE_MS + number * _STEP_MS, dtype=np.int64)
        values = np.arange(samples, dtype=np.float64) * 3 + number
        ((body, _, _),) = _core.encode_remote_write(series, which, times, values, 1 << 24)
        made.append(body)
    return made


def engine_us(folder: Path, requests: list[bytes]) -> float:
    """Microseconds of processor time that the engine alone takes for one of them."""
    engine = _core.Engine.open(str(folder))
    engine.push("remote_write", requests[0])
    began = time.process_time()
    for body in requests[1:]:
        engine.push("remote_write", body)
    spent = time.process_time() - began
    engine.close()
    return spent / (len(requests) - 1) * 1e6


def server_us(server: Millstream, requests: list[bytes]) -> float:
    headers = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    with Client(server.url) as client:
        for number, body in enumerate(requests):
            if number == 1:
                before = processor_seconds(server.pid)
            answer = client.request("POST", "/api/v1/write", body=body, headers=headers)
            assert answer.status == 204, answer
        return (processor_seconds(server.pid) - before) / (len(requests) - 1) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    alone: list[float] = []
    whole: list[float] = []
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as scratch:
        root = Path(scratch)
        environment = {"MILLSTREAM_AUTH__ADMIN_KEY": KEY}
        with Millstream(root / "data", root / "log", env=environment) as server:
            idle_mb = psutil.Process(server.pid).memory_info().rss / 1e6
            for number in range(arguments.rounds):
                made = bodies(arguments.samples, number * arguments.requests, arguments.requests)
                alone.append(engine_us(root / f"engine-{number}", made))
                whole.append(server_us(server, made))
    engine, server_all = statistics.median(alone), statistics.median(whole)
    own = server_all - engine
    print(f"commit {commit()} on {machine()}")
    print(
        f"medians of {arguments.rounds}; {arguments.requests} bodies of {arguments.samples} samples"
    )
    print(f"engine alone      {engine:8.1f} us of processor time a body")
    print(f"server            {server_all:8.1f} us")
    print(f"gateway itself    {own:8.1f} us, {own / server_all:.0%} of the whole")
    print(f"idle server       {idle_mb:8.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
