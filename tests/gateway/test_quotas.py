"""Quotas: what counts, when a period ends, and what a restart and another gateway know of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from millstream.errors import UnavailableError
from millstream_gateway.app import create_app
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.backends.local_meta_store import LocalMetaStore, MemoryMetaStore
from millstream_gateway.schemas.limits import Plan, Quota, Unit
from millstream_gateway.services.quotas import Calendar, QuotaBook
from millstream_gateway.settings import LimitsSettings, Settings, StorageSettings

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def plan_of(**values: int) -> Plan:
    units = {"requests": Unit.REQUESTS, "samples": Unit.SAMPLES}
    quotas = (Quota(name, units[name.partition("_")[0]], most) for name, most in values.items())
    return Plan(tenant=3, tag="3", rules=(), quotas=tuple(quotas))


def test_days_and_months_are_those_of_utc_and_end_when_they_should() -> None:
    clock = Clock()
    calendar = Calendar(clock)
    midnight = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert calendar.period("samples_per_day") == ("2026-02-28", midnight)
    assert calendar.period("samples_per_month") == ("2026-02", midnight)
    clock.now = midnight
    april = datetime(2026, 4, 1, tzinfo=UTC).timestamp()
    assert calendar.period("samples_per_day") == ("2026-03-01", midnight + 86_400)
    assert calendar.period("samples_per_month") == ("2026-03", april)
    clock.now = datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp()
    assert calendar.period("requests_per_month")[0] == "2026-12"
    assert calendar.period("requests_per_month")[1] == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def test_a_quota_refuses_when_it_is_used_up_and_not_before() -> None:
    book = QuotaBook(MemoryMetaStore(), Calendar(Clock()))
    plan = plan_of(requests_per_day=2)
    for _ in range(2):
        assert book.refused(plan) is None
        book.count(plan, Unit.REQUESTS, 1)
    assert book.refused(plan) is plan.quotas[0]


def test_the_next_day_has_a_new_quota_and_the_month_goes_on() -> None:
    clock = Clock(datetime(2026, 2, 27, 12, tzinfo=UTC).timestamp())
    book = QuotaBook(MemoryMetaStore(), Calendar(clock))
    plan = plan_of(samples_per_day=10, samples_per_month=15)
    book.count(plan, Unit.SAMPLES, 12)
    assert book.refused(plan) is plan.quotas[0]
    book.flush()
    clock.now += 86_400
    assert book.refused(plan) is None
    book.count(plan, Unit.SAMPLES, 5)
    assert book.refused(plan) is plan.quotas[1]
    book.flush()
    clock.now += 86_400
    assert book.refused(plan) is None


def test_what_was_used_outlives_a_restart_and_adds_up_over_gateways(tmp_path: Path) -> None:
    plan = plan_of(samples_per_day=100, requests_per_month=100)
    stores = [LocalMetaStore(tmp_path / "meta", poll_seconds=0.01) for _ in range(2)]
    for store in stores:
        store.open()
    books = [QuotaBook(store, Calendar(Clock())) for store in stores]
    for _ in range(3):
        for book in books:
            book.count(plan, Unit.SAMPLES, 7)
            book.count(plan, Unit.REQUESTS, 1)
            book.flush()
    for store in stores:
        store.close()
    reopened = LocalMetaStore(tmp_path / "meta")
    reopened.open()
    book = QuotaBook(reopened, Calendar(Clock()))
    assert book.used(3, "samples_per_day") == 42
    assert book.used(3, "requests_per_month") == 6
    assert book.used(4, "samples_per_day") == 0
    reopened.close()


def test_a_store_that_cannot_be_written_loses_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryMetaStore()
    book = QuotaBook(store, Calendar(Clock()))
    plan = plan_of(samples_per_day=100)
    book.count(plan, Unit.SAMPLES, 7)

    def fail(*_args: object, **_options: object) -> None:
        raise UnavailableError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", fail)
        with pytest.raises(UnavailableError):
            book.flush()
    assert book.used(3, "samples_per_day") == 7
    book.flush()
    assert book.used(3, "samples_per_day") == 7


def test_what_is_being_written_down_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryMetaStore()
    book = QuotaBook(store, Calendar(Clock()))
    plan = plan_of(samples_per_day=100)
    commit = store.commit
    seen: list[int] = []

    def look_on(*given: Any, **options: Any) -> Any:
        seen.append(book.used(3, "samples_per_day"))
        book.count(plan, Unit.SAMPLES, 1)
        after = commit(*given, **options)
        seen.append(book.used(3, "samples_per_day"))
        return after

    monkeypatch.setattr(store, "commit", look_on)
    for _ in range(3):
        book.count(plan, Unit.SAMPLES, 7)
        book.flush()
    assert seen == [7, 8, 15, 16, 23, 24]


def test_a_quota_is_exact_while_its_use_is_written_down(tmp_path: Path) -> None:
    settings = Settings(
        storage=StorageSettings(path=str(tmp_path / "data")),
        limits=LimitsSettings(
            requests_per_day=300, json_requests_per_second=0, quota_interval="100ms"
        ),
    )
    body = {"metrics": [{"name": "m", "value": 1}]}
    with TestClient(create_app(settings, FakeBackend())) as client:
        codes = [client.post("/metrics", json=body).status_code for _ in range(400)]
    assert codes == [200] * 300 + [429] * 100


def test_over_http_a_quota_ends_with_the_wait_until_the_period_does(tmp_path: Path) -> None:
    settings = Settings(
        storage=StorageSettings(path=str(tmp_path / "data"), retention="100y"),
        limits=LimitsSettings(samples_per_day=3, json_requests_per_second=0),
    )
    body = {"metrics": [{"name": "m", "value": 1} for _ in range(5)]}

    def write(client: TestClient) -> Any:
        return client.post("/metrics", json=body)

    with TestClient(create_app(settings, FakeBackend())) as client:
        first = write(client)
        assert first.status_code == 200
        assert first.headers["ratelimit-policy"] == '"samples_per_day";q=3;w=86400;qu="samples"'
        refused = write(client)
        assert refused.status_code == 429
        assert refused.json()["limit"] == "limits.samples_per_day"
        assert refused.json()["value"] == 3
        assert "used up" in refused.json()["detail"]
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400
        assert client.get("/health").status_code == 200
    # The next start knows of it.
    with TestClient(create_app(settings, FakeBackend())) as client:
        assert write(client).status_code == 429
