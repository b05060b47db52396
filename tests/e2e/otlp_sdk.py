"""What an application measures with the real OpenTelemetry SDK, and what PromQL has to say of it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from tests.services import promql
from tests.services.http import Client

DELTA: dict[type, AggregationTemporality] = {
    **dict.fromkeys((Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA),
    **dict.fromkeys((UpDownCounter, ObservableUpDownCounter), AggregationTemporality.CUMULATIVE),
}
CUMULATIVE: dict[type, AggregationTemporality] = dict.fromkeys(
    DELTA, AggregationTemporality.CUMULATIVE
)
IDENTITY = '{job="eu/shop",instance="i-1"}'


class Application:
    """Counts orders, times requests in classic buckets and sizes in exponential ones."""

    def __init__(self, exporter: MetricExporter) -> None:
        # Exports when it is told to, and never by itself.
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        self._provider = MeterProvider(
            [reader],
            Resource.create(
                {
                    "service.name": "shop",
                    "service.namespace": "eu",
                    "service.instance.id": "i-1",
                    "deployment.environment.name": "test",
                }
            ),
            views=[
                View(
                    instrument_name="payload.size",
                    aggregation=ExponentialBucketHistogramAggregation(max_size=20),
                )
            ],
        )
        meter = self._provider.get_meter("shop.orders", "1.2")
        self._orders = meter.create_counter("orders.placed", description="Orders so far")
        self._carts = meter.create_up_down_counter("carts.open", unit="{cart}")
        self._duration = meter.create_histogram(
            "request.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1, 10]
        )
        self._size = meter.create_histogram("payload.size", unit="By")
        meter.create_observable_gauge("memory.share", [self._share], unit="1")
        self._memory = 0.0

    def _share(self, _options: CallbackOptions) -> Sequence[Observation]:
        return [Observation(self._memory, {"pool.name": "heap"})]

    def work(self, rounds: int) -> None:
        """Each round the same; what it adds up to is in `expected`."""
        for _ in range(rounds):
            self._orders.add(3, {"payment.method": "card"})
            self._orders.add(2, {"payment.method": "cash"})
            self._carts.add(1)
            for seconds in (0.05, 0.5, 5, 50):
                self._duration.record(seconds)
            for size in (0, 1, 100, 10_000):
                self._size.record(size)
            self._memory += 0.125

    def export(self) -> None:
        assert self._provider.force_flush(20_000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._provider.shutdown()


def expected(rounds: int) -> dict[str, float]:
    """Expressions and what they give after so many rounds."""
    duration = "request_duration_seconds"
    return {
        f"orders_placed_total{IDENTITY[:-1]},payment_method='card'}}": 3 * rounds,
        f"orders_placed_total{IDENTITY[:-1]},payment_method='cash'}}": 2 * rounds,
        f"carts_open{IDENTITY}": rounds,
        f"memory_share_ratio{IDENTITY[:-1]},pool_name='heap'}}": 0.125 * rounds,
        f"{duration}_count{IDENTITY}": 4 * rounds,
        f"{duration}_sum{IDENTITY}": 55.55 * rounds,
        f"{duration}_bucket{IDENTITY[:-1]},le='1'}}": 2 * rounds,
        f"{duration}_bucket{IDENTITY[:-1]},le='+Inf'}}": 4 * rounds,
        f"histogram_count(payload_size_bytes{IDENTITY})": 4 * rounds,
        f"histogram_sum(payload_size_bytes{IDENTITY})": 10_101 * rounds,
        f"target_info{IDENTITY[:-1]},deployment_environment_name='test'}}": 1,
    }


def assert_measured(client: Client, rounds: int) -> None:
    """PromQL says now what the application has done."""
    now = int(time.time() * 1000)
    for expression, value in expected(rounds).items():
        got = promql.instant_value(client, expression, now)
        assert got is not None, f"{expression} is empty"
        assert promql.close(value, got), f"{expression} is {got} and not {value}"
    # Three quarters of the sizes are at most 100, within a bucket's width.
    third = promql.instant_value(
        client, f"histogram_quantile(0.7, payload_size_bytes{IDENTITY})", now
    )
    assert third is not None
    assert 20 < third < 200
