"""A Prometheus that scrapes nothing answers PromQL from what only Millstream has, through remote read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.services import promql, remote_write
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.prometheus import Prometheus, PrometheusConfig

pytestmark = pytest.mark.e2e

STEP_MS = 15_000
SAMPLES = 700
QUERIES = (
    "rr_smooth",
    "rr_wild",
    "sum by (host) (rate(rr_counter[5m]))",
    "count_over_time(rr_wild[1h])",
    'rr_smooth{host!="a"}',
    '{__name__=~"rr_(smooth|counter)", host=~"a|b"}',
    "rr_histogram",
    "histogram_quantile(0.9, rate(rr_histogram[5m]))",
    "max_over_time(rr_gap[3h])",
)


@dataclass(frozen=True)
class Scene:
    millstream: str
    prometheus: str
    first_ms: int
    end_ms: int


def _wild(index: int) -> float:
    odd = (0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -1.7e308, 1 / 3)
    return odd[index % len(odd)] if index % 3 == 0 else (-1.0) ** index * 1.1 ** (index % 600)


def _series(name: str, host: str, samples: list[tuple[int, float]]) -> remote_write.Series:
    return remote_write.Series(
        remote_write.sorted_labels(name, host=host),
        [remote_write.Sample.of(at, value) for at, value in samples],
    )


def _histogram(count: int) -> bytes:
    deltas = remote_write.varint(2 * count)
    return b"".join(
        (
            b"\x08" + remote_write.varint(count),
            b"\x19" + remote_write.value_bits(count * 1.5).to_bytes(8, "little"),
            b"\x5a\x04\x08\x02\x10\x01",
            remote_write.length_delimited(12, deltas),
        )
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("remote_read")
    end_ms = int(time.time() * 1000) // STEP_MS * STEP_MS
    first_ms = end_ms - (SAMPLES - 1) * STEP_MS
    # Intervals of every width that the chunks have a form for, to the millisecond and to the hour.
    jitter = (0, 1, -1, 700, -900, 6_000, -6_500)
    times = [first_ms + i * STEP_MS + jitter[i % len(jitter)] for i in range(SAMPLES)]
    gaps = [end_ms - 9_000_000, end_ms - 9_000_000 + 1, end_ms - 1_000_000, end_ms - 5]
    series = [
        _series("rr_gap", "a", [(at, float(i)) for i, at in enumerate(gaps)]),
        *(
            _series(name, host, [(at, value(i)) for i, at in enumerate(times)])
            for host in "abc"
            for name, value in (
                ("rr_smooth", lambda i: 20 + math.sin(i / 20)),
                ("rr_wild", _wild),
                ("rr_counter", lambda i: float(i * 7 % 900)),
            )
        ),
    ]
    labels = b"".join(
        remote_write.length_delimited(1, remote_write.encode_label(name, value))
        for name, value in remote_write.sorted_labels("rr_histogram", host="a")
    )
    histograms = b"".join(
        remote_write.length_delimited(4, _histogram(i) + b"\x78" + remote_write.varint(at))
        for i, at in enumerate(times)
    )
    body = remote_write.encode_request(series)
    body += remote_write.length_delimited(1, labels + histograms)
    with ExitStack() as services:
        millstream = services.enter_context(Millstream(root / "data", root / "millstream"))
        with Client(millstream.url) as client:
            response = remote_write.post(client, remote_write.compress(body))
            assert response.status == 204, response.text
        config = PrometheusConfig(
            scrape_itself=False,
            remote_read=[{"url": f"{millstream.url}/api/v1/read", "read_recent": True}],
        )
        prometheus = services.enter_context(Prometheus(root / "prometheus", config))
        yield Scene(millstream.url, prometheus.url, first_ms, end_ms)


@pytest.mark.parametrize("expr", QUERIES)
def test_prometheus_answers_from_our_data_as_we_do(scene: Scene, expr: str) -> None:
    for query in (
        promql.Instant(expr, scene.end_ms),
        promql.Range(expr, scene.first_ms, scene.end_ms, 61_000),
    ):
        with Client(scene.millstream) as ours, Client(scene.prometheus) as theirs:
            wanted = promql.must_ask(ours, query)
            found = promql.compare(query, wanted, promql.must_ask(theirs, query))
        assert not wanted.is_empty()
        assert not found.differences, "\n".join(map(str, found.differences[:10]))


@pytest.mark.parametrize("name", ["rr_smooth", "rr_wild", "rr_counter", "rr_gap", "rr_histogram"])
def test_every_raw_sample_is_read_unchanged(scene: Scene, name: str) -> None:
    query = promql.Instant(f"{name}[4h]", scene.end_ms)
    with Client(scene.millstream) as ours, Client(scene.prometheus) as theirs:
        wanted, got = promql.must_ask(ours, query), promql.must_ask(theirs, query)
    assert wanted.sample_count() >= 4
    assert not promql.compare(query, wanted, got).differences


def test_what_nobody_has_is_empty(scene: Scene) -> None:
    with Client(scene.prometheus) as theirs:
        assert promql.must_ask(theirs, promql.Instant("rr_nothing", scene.end_ms)).is_empty()
