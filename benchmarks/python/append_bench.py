"""Appends in process: the columnar hot path of the Python package, without a server.

    python -m benchmarks.python.append_bench [--rounds 5] [--output FILE.json]

One caller hands batches of samples of 1,000 known series to `Database.append`; every call returns when its samples are
acknowledged under the durability named. Printed are medians over fresh databases.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np

import millstream
from benchmarks.python.machine import commit, machine

SERIES = 1_000
INTERVAL_MS = 15_000
STEPS = 240
# How many samples of every series one call carries.
STEPS_PER_CALL = (1, 10)
Durability = Literal["process", "fsync"]
DURABILITIES: tuple[Durability, ...] = ("process", "fsync")
FIRST_MS = 1_700_000_000_000
ROUNDS_MIN = 3


def samples_per_second(folder: Path, durability: Durability, steps_per_call: int) -> float:
    """Fills one fresh database with SERIES * STEPS samples."""
    labels = [
        {"__name__": "bench", "host": f"host-{number:04}", "dc": f"dc{number % 4}", "job": "bench"}
        for number in range(SERIES)
    ]
    noise = np.random.default_rng(1).normal(size=(STEPS, SERIES)).cumsum(axis=0)
    with millstream.open(str(folder), durability=durability) as database:
        refs = np.tile(database.series_refs(labels), steps_per_call)
        calls = []
        for first in range(0, STEPS, steps_per_call):
            steps = np.arange(first, first + steps_per_call, dtype=np.int64)
            stamps = np.repeat(FIRST_MS + steps * INTERVAL_MS, SERIES)
            calls.append(
                (stamps, np.ascontiguousarray(noise[first : first + steps_per_call]).ravel())
            )
        began = time.perf_counter()
        for stamps, values in calls:
            database.append(refs, stamps, values)
        took = time.perf_counter() - began
    return SERIES * STEPS / took


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
    where = {"commit": commit(), "machine": machine()}
    print(f"commit {where['commit']} on {where['machine']}")
    print(
        f"append in process, medians of {arguments.rounds}; {SERIES} series, {STEPS} samples each"
    )
    results = []
    for durability in DURABILITIES:
        for steps_per_call in STEPS_PER_CALL:
            taken = []
            for _ in range(arguments.rounds):
                with tempfile.TemporaryDirectory(prefix="millstream-bench-") as scratch:
                    taken.append(
                        samples_per_second(Path(scratch) / "data", durability, steps_per_call)
                    )
            median = statistics.median(taken)
            batch = SERIES * steps_per_call
            print(f"durability={durability:8} {batch:>6} samples a call {median:>14,.0f} samples/s")
            results.append({"durability": durability, "batch": batch, "samples_per_second": median})
    if arguments.output:
        document = {**where, "rounds": arguments.rounds, "results": results}
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
