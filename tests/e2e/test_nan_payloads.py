"""NaNs over a real socket come back bit by bit: from the folder, through restarts, files and nodes.

JSON has one word for all of them, so they are read where bits are bits: the embedded database's arrays, Arrow, Parquet,
and a node's protobuf.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

import millstream
from millstream.v1 import query_pb2, query_pb2_grpc
from millstream_gateway.settings import StorageSettings
from tests.gateway.conftest import node
from tests.services import promql
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.remote_write import Sample, Series, sorted_labels, value_bits, write

pytestmark = pytest.mark.e2e

NOW_MS = time.time_ns() // 1_000_000
# Prometheus's own bit patterns (model/value).
STALE_NAN_BITS = 0x7FF0000000000002
NORMAL_NAN_BITS = 0x7FF8000000000001
SIGN = 1 << 63
QUIET = 1 << 51
PAYLOADS = [1, 2, 3, 0xABCDEF, 1 << 50, QUIET - 1]
# Signalling and quiet, positive and negative; the staleness marker is one of them.
EVERY_NAN = [
    sign | 0x7FF << 52 | quiet | payload
    for sign in (0, SIGN)
    for quiet in (0, QUIET)
    for payload in PAYLOADS
] + [0x7FF << 52 | QUIET, SIGN | 0x7FF << 52 | QUIET]
OTHER_NANS = [bits for bits in EVERY_NAN if bits != STALE_NAN_BITS]
# Enough to fill chunks, so that the codec of sealed chunks has its say, too.
ROUNDS = 40


def mixed_samples() -> list[Sample]:
    """Every NaN after a number, in changing order, and the staleness marker between."""
    bits: list[int] = []
    for number in range(ROUNDS):
        turn = number % len(EVERY_NAN)
        for nan in EVERY_NAN[turn:] + EVERY_NAN[:turn]:
            bits += [value_bits(number + len(bits) / 8), nan]
    first = NOW_MS - len(bits)
    return [Sample(first + index, one) for index, one in enumerate(bits)]


MIXED = mixed_samples()
# A range selector leaves out staleness markers, and nothing else.
SEEN = [sample for sample in MIXED if sample.bits != STALE_NAN_BITS]
RANGE = f"mixed[{len(MIXED) + 1}ms]"


def store(client: Client) -> None:
    everything = [Series(sorted_labels("mixed"), MIXED)]
    for bits in EVERY_NAN:
        labels = sorted_labels("ends_with", bits=f"{bits:016x}")
        samples = [Sample.of(NOW_MS - 60_000, 1.0), Sample(NOW_MS, bits)]
        everything.append(Series(labels, samples))
    assert write(client, everything).status == 204


def bits_of(values: NDArray[np.float64] | Iterable[float]) -> list[int]:
    return [int(one) for one in np.asarray(values, np.float64).view(np.uint64)]


def assert_kept(data: Path) -> None:
    """Reads the folder in every way that has bits, and counts."""
    with millstream.open(data) as db:
        mixed = db.query(RANGE, time=NOW_MS)
        (series,) = mixed.series
        assert series.timestamps.tolist() == [sample.timestamp_ms for sample in SEEN]
        assert bits_of(series.values) == [sample.bits for sample in SEEN]
        assert bits_of(mixed.to_numpy()[1][0]) == [sample.bits for sample in SEEN]
        assert bits_of(mixed.to_arrow()["value"].to_numpy()) == [sample.bits for sample in SEEN]
        last = db.query("ends_with", time=NOW_MS)
        # Only the exact pattern of the staleness marker ends a series, so it was kept exactly.
        assert {int(one.labels["bits"], 16) for one in last.series} == set(OTHER_NANS)
        for one in last.series:
            assert bits_of(one.values) == [int(one.labels["bits"], 16)]
        over_time = db.query_range("ends_with", NOW_MS - 1, NOW_MS, "1ms")
        for one in over_time.series:
            ends = int(one.labels["bits"], 16)
            values = [value_bits(1.0)] if ends == STALE_NAN_BITS else [value_bits(1.0), ends]
            assert bits_of(one.values) == values
        assert len(over_time.series) == len(EVERY_NAN)


def test_every_nan_comes_back_to_the_bit_after_a_kill_and_after_a_stop(tmp_path: Path) -> None:
    data, logs = tmp_path / "data", tmp_path / "logs"
    with Millstream(data, logs) as server, Client(server.url) as client:
        store(client)
        server.kill()
    # From the log alone.
    assert_kept(data)
    # An orderly stop, and another start from what it left.
    with Millstream(data, logs) as server, Client(server.url) as client:
        count = promql.instant_value(client, f"count_over_time({RANGE})", NOW_MS)
        assert count == len(SEEN)
        assert promql.must_ask(
            client, promql.Instant(f'ends_with{{bits="{STALE_NAN_BITS:016x}"}}', NOW_MS)
        ).is_empty()
    assert_kept(data)


def test_every_nan_goes_through_parquet_and_a_frame_to_the_bit(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "nans.parquet"
    with Millstream(data, tmp_path / "logs") as server, Client(server.url) as client:
        store(client)
    span = ["--start", str((NOW_MS - 60_001) / 1000), "--end", str(NOW_MS / 1000)]
    cli = [sys.executable, "-m", "millstream"]
    export = [*cli, "export", "mixed", "--format", "parquet", "--output", str(file)]
    subprocess.run([*export, *span, "--data", str(data)], check=True, timeout=120)
    table = pyarrow.parquet.read_table(file)
    assert bits_of(table["value"].to_numpy()) == [sample.bits for sample in SEEN]
    with millstream.open(tmp_path / "copy") as db:
        db.write_frame(table, metric="name", time="timestamp")
        (series,) = db.query(RANGE, time=NOW_MS).series
        assert bits_of(series.values) == [sample.bits for sample in SEEN]


def test_every_nan_goes_through_a_node_to_the_bit(tmp_path: Path) -> None:
    with node(StorageSettings(path=str(tmp_path / "node"))) as address:
        front = Millstream(tmp_path / "unused", tmp_path / "logs", arguments=["--nodes", address])
        with front as server, Client(server.url) as client:
            store(client)
        with grpc.insecure_channel(address) as channel:
            # The generated modules have no types.
            stub: Any = query_pb2_grpc.StorageQueryServiceStub
            query = stub(channel).Query
            request = query_pb2.QueryRequest(expression=RANGE, time_ms=NOW_MS)
            (series,) = query(request, timeout=60).matrix.series
            assert list(series.timestamps_ms) == [sample.timestamp_ms for sample in SEEN]
            assert bits_of(series.values) == [sample.bits for sample in SEEN]
            request = query_pb2.QueryRequest(expression="ends_with", time_ms=NOW_MS)
            found = query(request, timeout=60).vector.series
    assert len(found) == len(OTHER_NANS)
    for one in found:
        (bits,) = (label.value for label in one.labels.labels if label.name == "bits")
        assert bits_of(one.values) == [int(bits, 16)]
