"""Quotas: how many requests and samples a tenant may send in a day and in a month of UTC.

Counts are kept in memory and added to the meta store every ``limits.quota_interval``, so several
gateways on one folder count together with that lag, and a crash forgets that much at most. With a
Redis they are counted there instead, exactly, and this book counts only while it is gone.

Threads  `flush` blocks and is for one thread at a time; everything else is for the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from millstream_gateway.backends.meta_store import Kind, MetaStore, retried
from millstream_gateway.schemas.limits import Plan, Quota, Unit

QUOTA_UNITS: Final = {
    "requests_per_day": Unit.REQUESTS,
    "samples_per_day": Unit.SAMPLES,
    "requests_per_month": Unit.REQUESTS,
    "samples_per_month": Unit.SAMPLES,
}
_At = tuple[int, str, str]


class Calendar:
    """Which day and which month it is, and when they end."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._periods: dict[bool, tuple[str, float]] = {}

    def now(self) -> float:
        return self._clock()

    def period(self, name: str) -> tuple[str, float]:
        """What the period of a quota is called now, and at which Unix time it ends."""
        by_day = name.endswith("_day")
        known = self._periods.get(by_day)
        now = self._clock()
        # A clock that was set back gets its day back, too.
        if known is None or now >= known[1] or now < known[1] - 32 * 86_400:
            known = self._periods[by_day] = _period(now, by_day)
        return known


def _period(now: float, by_day: bool) -> tuple[str, float]:
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if by_day:
        return day.strftime("%Y-%m-%d"), (day + timedelta(days=1)).timestamp()
    first = day.replace(day=1)
    return first.strftime("%Y-%m"), (first + timedelta(days=32)).replace(day=1).timestamp()


class QuotaBook:
    """Counts by tenant, quota and period."""

    def __init__(self, store: MetaStore, calendar: Calendar) -> None:
        self._store = store
        self._calendar = calendar
        # Held for moments only, never while the store is written.
        self._lock = threading.Lock()
        self._fresh: dict[_At, int] = {}
        # On its way to the store, and the version of each tenant's record before it is there.
        self._flushing: dict[_At, int] = {}
        self._before: dict[int, int] = {}

    def used(self, tenant: int, name: str) -> int:
        """How much of a quota is used in this period, as far as this process knows."""
        period, _ = self._calendar.period(name)
        at = (tenant, name, period)
        with self._lock:
            snapshot = self._store.snapshot()
            version = snapshot.version(Kind.QUOTA, str(tenant))
            unwritten = self._fresh.get(at, 0)
            # Neither twice nor not at all in the moment in which it is written down.
            if self._before.get(tenant, version) == version:
                unwritten += self._flushing.get(at, 0)
        record = snapshot.get(Kind.QUOTA, str(tenant))
        return unwritten + (0 if record is None else _stored(record.value, name, period))

    def refused(self, plan: Plan) -> Quota | None:
        """The first quota that has no room for one request more."""
        for quota in plan.quotas:
            one = 1 if quota.unit is Unit.REQUESTS else 0
            used = self.used(plan.tenant, quota.name)
            if used >= quota.value or used + one > quota.value:
                return quota
        return None

    def count(self, plan: Plan, unit: Unit, count: int) -> None:
        for quota in plan.quotas:
            if quota.unit is unit:
                at = (plan.tenant, quota.name, self._calendar.period(quota.name)[0])
                with self._lock:
                    self._fresh[at] = self._fresh.get(at, 0) + count

    def flush(self) -> None:
        """Add what was counted since the last time to the store. Blocks."""
        with self._lock:
            if not self._fresh:
                return
            self._flushing, self._fresh = self._fresh, {}
        kept: Mapping[_At, int] = self._flushing
        try:
            self._add(self._flushing)
            kept = {}
        finally:
            with self._lock:
                for at, count in kept.items():
                    self._fresh[at] = self._fresh.get(at, 0) + count
                self._flushing, self._before = {}, {}

    def _add(self, counts: Mapping[_At, int]) -> None:
        def attempt() -> None:
            snapshot = self._store.snapshot()
            puts: dict[tuple[Kind, str], dict[str, Any]] = {}
            for (tenant, name, period), count in counts.items():
                key = (Kind.QUOTA, str(tenant))
                if key not in puts:
                    record = snapshot.get(*key)
                    puts[key] = {} if record is None else dict(record.value)
                before = _stored(puts[key], name, period)
                puts[key][name] = {"period": period, "count": before + count}
            expect = {key: snapshot.version(*key) for key in puts}
            with self._lock:
                self._before = {int(tenant): version for (_, tenant), version in expect.items()}
            self._store.commit(puts, expect=expect)

        retried(attempt, "the quotas are being counted by too many others")


def _stored(value: Mapping[str, Any], name: str, period: str) -> int:
    entry = value.get(name)
    return int(entry["count"]) if entry and entry["period"] == period else 0
