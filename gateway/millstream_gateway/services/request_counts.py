"""How many requests were answered, how long that took, and what they brought.

Counted with plain numbers instead of the metric library's own, whose locks cost a small write more
than its permission does. What is read while another request is being counted may lack that one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from millstream_gateway.schemas.push import PushOutcome

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_BOUNDS: Final = (*(str(float(bound)) for bound in _SECONDS), "+Inf")


class _Durations:
    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.seconds = 0.0


class ItemCounts(Collector):
    """Threads  All but `collect` from the event loop only."""

    def __init__(self) -> None:
        # By form: stored and rejected.
        self._items: dict[str, list[int]] = {}

    def count(self, form: str, outcome: PushOutcome) -> None:
        counts = self._items.get(form)
        if counts is None:
            counts = self._items[form] = [0, 0]
        counts[0] += outcome.stored
        counts[1] += outcome.rejected

    def collect(self) -> Iterable[CounterMetricFamily]:
        items = CounterMetricFamily(
            "millstream_ingest_items",
            "Items written over HTTP, by form of the body and result.",
            labels=("form", "result"),
        )
        for form, (stored, rejected) in list(self._items.items()):
            items.add_metric((form, "stored"), stored)
            items.add_metric((form, "rejected"), rejected)
        return (items,)


class RequestCounts(Collector):
    """Threads  All but `collect` from the event loop only."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._answered: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, _Durations] = {}

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        key = (route, method, status)
        self._answered[key] = self._answered.get(key, 0) + 1
        durations = self._durations.get(route)
        if durations is None:
            durations = self._durations[route] = _Durations()
        durations.counts[bisect_left(_SECONDS, seconds)] += 1
        durations.seconds += seconds

    def collect(
        self,
    ) -> Iterable[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        answered = CounterMetricFamily(
            "millstream_http_requests",
            "Requests answered, by route and status.",
            labels=("route", "method", "status"),
        )
        for (route, method, status), count in list(self._answered.items()):
            answered.add_metric((route, method, str(status)), count)
        durations = HistogramMetricFamily(
            "millstream_http_request_duration_seconds",
            "Time from the request's first byte to the answer's last.",
            labels=("route",),
        )
        for route, one in list(self._durations.items()):
            buckets = list(zip(_BOUNDS, map(float, accumulate(one.counts)), strict=True))
            durations.add_metric((route,), buckets, one.seconds)
        in_flight = GaugeMetricFamily(
            "millstream_http_requests_in_flight",
            "Requests that are being answered.",
            value=self.in_flight,
        )
        return answered, durations, in_flight
