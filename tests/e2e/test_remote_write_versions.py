"""Prometheus sends what it scrapes by remote write 1.0 to one server and by 2.0 to another: the same arrives at both.

It scrapes itself (native histograms) and a target with exemplars, metadata and classic histograms, which it also
converts to native ones with custom buckets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.services import promql
from tests.services.exposition import ExpositionTarget
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.process import wait_until
from tests.services.prometheus import Prometheus, PrometheusConfig

pytestmark = pytest.mark.e2e

MESSAGES = {"1.0": "prometheus.WriteRequest", "2.0": "io.prometheus.write.v2.Request"}
DEADLINE_SECONDS = 60.0
SCRAPES = 4
# Prometheus does not send histograms with custom buckets by 1.0.
EVERYTHING = {
    "1.0": '{__name__=~".+", __name__!="shop_latency_seconds"}[10m]',
    "2.0": '{__name__=~".+"}[10m]',
}
EXEMPLARS = '{__name__=~"shop_.+"}'


def _exposition(now: float) -> str:
    return f"""\
# TYPE shop_open gauge
# HELP shop_open Carts.
shop_open 2.5
# TYPE shop_orders counter
# HELP shop_orders Orders so far.
shop_orders_total{{kind="x"}} 17 # {{trace_id="c3"}} 1 {now - 1:.3f}
shop_orders_created{{kind="x"}} {now - 100:.3f}
# TYPE shop_latency_seconds histogram
# UNIT shop_latency_seconds seconds
# HELP shop_latency_seconds How long a request takes.
shop_latency_seconds_bucket{{le="0.1"}} 3 # {{trace_id="a1"}} 0.05 {now - 3:.3f}
shop_latency_seconds_bucket{{le="1.0"}} 5 # {{trace_id="b2",span_id="é"}} 0.5 {now - 2:.3f}
shop_latency_seconds_bucket{{le="+Inf"}} 6
shop_latency_seconds_count 6
shop_latency_seconds_sum 4.25
shop_latency_seconds_created {now - 100:.3f}
# EOF
"""


@dataclass(frozen=True)
class Scene:
    reference: str
    subjects: dict[str, str]
    end_ms: int


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("versions")
    with ExitStack() as services:
        target = services.enter_context(ExpositionTarget(_exposition(time.time())))
        subjects = {
            version: services.enter_context(
                Millstream(root / f"data-{version}", root / f"millstream-{version}")
            ).url
            for version in MESSAGES
        }
        config = PrometheusConfig(
            scrape={"shop": [target.address]},
            scrape_extra={"shop": {"convert_classic_histograms_to_nhcb": True}},
            # The pinned version sends metadata by 2.0 with type-and-unit-labels only, and then without
            # help: its metadata-wal-records is not handed on to its storage.
            features=("exemplar-storage", "st-storage", "type-and-unit-labels"),
            remote_write=[
                {
                    "url": f"{url}/api/v1/write",
                    "protobuf_message": MESSAGES[version],
                    "send_exemplars": True,
                    "metadata_config": {"send": version == "1.0", "send_interval": "1s"}
                    if version == "1.0"
                    else {"send": False},
                }
                for version, url in subjects.items()
            ],
        )
        reference = services.enter_context(Prometheus(root / "reference", config)).url
        with Client(reference) as client:
            wait_until(
                f"{SCRAPES} scrapes of the target",
                DEADLINE_SECONDS,
                lambda: _value(client, 'count_over_time(up{job="shop"}[10m])') >= SCRAPES,
            )
            end_ms = int(_value(client, 'timestamp(up{job="shop"})') * 1000)
        for version, url in subjects.items():
            wanted = _raw(reference, version, end_ms).sample_count()
            wait_until(
                f"all samples by {version}",
                DEADLINE_SECONDS,
                partial(_has_samples, url, version, end_ms, wanted),
            )
        yield Scene(reference, subjects, end_ms)


def _value(client: Client, expr: str) -> float:
    result = client.get("/api/v1/query", {"query": expr}).json()["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def _raw(url: str, version: str, end_ms: int) -> promql.Answer:
    with Client(url) as client:
        return promql.must_ask(client, promql.Instant(EVERYTHING[version], end_ms))


def _has_samples(url: str, version: str, end_ms: int, wanted: int) -> bool:
    return _raw(url, version, end_ms).sample_count() >= wanted


def _get(url: str, path: str, **params: str) -> Any:
    with Client(url) as client:
        answer = client.get(path, params).json()
    assert answer["status"] == "success", answer
    return answer["data"]


@pytest.mark.parametrize("version", MESSAGES)
def test_every_sample_and_native_histogram_arrives_unchanged(scene: Scene, version: str) -> None:
    query = promql.Instant(EVERYTHING[version], scene.end_ms)
    wanted = _raw(scene.reference, version, scene.end_ms)
    found = promql.compare(query, wanted, _raw(scene.subjects[version], version, scene.end_ms))
    assert not found.differences, "\n".join(map(str, found.differences[:20]))
    kinds = {type(value) for points in wanted.series.values() for value in points.values()}
    assert kinds == {float, promql.Histogram}, "nothing of one kind was compared"


def test_native_histograms_with_custom_buckets_answer_alike(scene: Scene) -> None:
    query = promql.Instant("histogram_quantile(0.6, sum(shop_latency_seconds))", scene.end_ms)
    answers = []
    for url in (scene.reference, scene.subjects["2.0"]):
        with Client(url) as client:
            answers.append(promql.must_ask(client, query))
    assert not answers[0].is_empty()
    assert not promql.compare(query, *answers).differences


@pytest.mark.parametrize("version", MESSAGES)
def test_exemplars_are_prometheus_ones(scene: Scene, version: str) -> None:
    window = {"query": EXEMPLARS, "start": "0", "end": promql.seconds(scene.end_ms + 60_000)}
    wanted = _get(scene.reference, "/api/v1/query_exemplars", **window)
    assert sum(len(series["exemplars"]) for series in wanted) >= 3
    got = _get(scene.subjects[version], "/api/v1/query_exemplars", **window)
    assert _by_series(got) == _by_series(wanted)


def _by_series(found: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return sorted((sorted(series["seriesLabels"].items()), series["exemplars"]) for series in found)


@pytest.mark.parametrize("version", MESSAGES)
def test_metadata_is_prometheus_ones(scene: Scene, version: str) -> None:
    wanted = _get(scene.reference, "/api/v1/metadata")
    # 2.0 sends metadata with each series, so a counter's is under the name that its series has.
    names = {
        "shop_latency_seconds": "shop_latency_seconds",
        "shop_open": "shop_open",
        "shop_orders": "shop_orders" if version == "1.0" else "shop_orders_total",
        "prometheus_http_request_duration_seconds": "prometheus_http_request_duration_seconds",
        "go_goroutines": "go_goroutines",
    }
    url = scene.subjects[version]
    wait_until(
        "metadata of all of them",
        DEADLINE_SECONDS,
        lambda: set(names.values()) <= set(_get(url, "/api/v1/metadata")),
    )
    got = _get(url, "/api/v1/metadata")
    for name, ours in names.items():
        help_text = {} if version == "1.0" else {"help": ""}
        assert got[ours] == [{**wanted[name][0], **help_text}], name


def test_nothing_failed_and_all_kinds_were_sent(scene: Scene) -> None:
    with Client(scene.reference) as client:
        for kind in ("samples", "histograms", "exemplars"):
            assert _value(client, f"min(prometheus_remote_storage_{kind}_total)") > 0
            assert _value(client, f"sum(prometheus_remote_storage_{kind}_failed_total)") == 0
