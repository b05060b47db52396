"""Rules that make metrics of events: through every backend that has an engine; the fake keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from millstream_gateway.app import create_app
from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.backends.wire import EventFrame, NativeSession
from millstream_gateway.schemas.access import DEFAULT_TENANT_ID
from millstream_gateway.settings import LimitsSettings, Settings
from tests.gateway.access_support import ROOT, Site, bearer, settings_in, site_in
from tests.gateway.conftest import BACKENDS, backend_of, needs_engine, wait_until

ENGINES = [backend for backend in BACKENDS if backend != "fake"]
RULE = {
    "metric": "orders_amount_total",
    "type": "counter",
    "value": "payload.amount",
    "labels": {"region": "payload.region"},
    "filter": "payload.paid == true",
}


def limited_of(settings: Settings) -> Settings:
    return settings.model_copy(update={"limits": LimitsSettings(max_series=3)})


@pytest.fixture(params=BACKENDS)
def client(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    with (
        backend_of(request.param, settings) as backend,
        TestClient(create_app(settings, backend)) as made,
    ):
        yield made


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    limited = limited_of(settings)
    with (
        backend_of(request.param, settings) as backend,
        TestClient(create_app(limited, backend)) as made,
    ):
        yield made


@pytest.fixture(params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with (
        backend_of(request.param, settings_in(tmp_path)) as backend,
        site_in(tmp_path, backend) as made,
    ):
        yield made


def publish(client: TestClient, *payloads: Any) -> None:
    events = [{"topic": "orders", "payload": one} for one in payloads]
    answer = client.post("/v1/events", json={"events": events})
    assert answer.status_code == 202, answer.text
    assert all("error" not in one for one in answer.json()["events"])


def ask(client: TestClient, query: str) -> dict[str, float]:
    """Values by region."""
    answer = client.get("/api/v1/query", params={"query": query})
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]["result"]
    return {one["metric"].get("region", ""): float(one["value"][1]) for one in found}


def test_rules_are_kept_shown_and_changed(client: TestClient) -> None:
    made = client.post("/v1/topics", json={"name": "orders", "metrics": [RULE]})
    assert made.status_code == 201, made.text
    assert made.json()["metrics"] == [RULE]
    plain = {"metric": "orders_total", "type": "counter", "labels": {}}
    changed = client.patch("/v1/topics/orders", json={"metrics": [{"metric": "orders_total"}]})
    assert changed.json()["metrics"] == [plain]
    untouched = client.patch("/v1/topics/orders", json={"retention_ms": 1000}).json()
    assert untouched["metrics"] == [plain]
    assert client.get("/v1/topics").json()["topics"][0]["metrics"] == [plain]
    assert client.patch("/v1/topics/orders", json={"metrics": []}).json()["metrics"] == []
    assert client.get("/v1/topics/orders").json()["metrics"] == []


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"metric": ""},
        {"metric": "m", "type": "histogram"},
        {"metric": "m", "value": 1},
        {"metric": "m", "unit": "s"},
        {"metric": "m", "labels": {f"l{n}": "key" for n in range(17)}},
        {"metric": "m", "labels": ["key"]},
    ],
)
def test_what_is_no_rule_is_refused(client: TestClient, rule: Any) -> None:
    answer = client.post("/v1/topics", json={"name": "orders", "metrics": [rule]})
    assert answer.status_code == 400, answer.text
    assert client.get("/v1/topics/orders").status_code == 404


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"metric": "1m"}, "metric"),
        ({"metric": "m", "type": "gauge"}, "gauge needs"),
        ({"metric": "m", "value": "key"}, "payload"),
        ({"metric": "m", "value": "payload.a["}, "byte"),
        ({"metric": "m", "labels": {"a-b": "key"}}, "label"),
        ({"metric": "m", "filter": "payload.a >"}, "filter"),
    ],
)
def test_what_the_engine_cannot_evaluate_is_refused_and_explained(
    engine: TestClient, rule: Any, what: str
) -> None:
    answer = engine.post("/v1/topics", json={"name": "orders", "metrics": [rule]})
    assert answer.status_code == 400, answer.text
    assert what in answer.text


def test_events_are_graphed_and_the_tenants_limit_of_series_holds(engine: TestClient) -> None:
    gauge = {"metric": "last_amount", "type": "gauge", "value": "payload.amount"}
    made = engine.post("/v1/topics", json={"name": "orders", "metrics": [RULE, gauge]})
    assert made.status_code == 201, made.text
    paid = {"paid": True, "region": "eu"}
    publish(engine, {**paid, "amount": 2}, {**paid, "amount": 0.5}, {"amount": 100}, "text")
    wait_until(lambda: ask(engine, "orders_amount_total") == {"eu": 2.5})
    wait_until(lambda: ask(engine, "last_amount") == {"": 100.0})
    publish(engine, {**paid, "amount": 1})
    wait_until(lambda: ask(engine, "orders_amount_total") == {"eu": 3.5})
    assert ask(engine, "sum by (region) (increase(orders_amount_total[5m]))")["eu"] > 0
    # The limit is three: there is place for one more.
    publish(engine, {**paid, "amount": 7, "region": "us"})
    wait_until(lambda: ask(engine, "orders_amount_total").get("us") == 7)
    publish(engine, {**paid, "amount": 7, "region": "asia"}, {**paid, "amount": 1})
    wait_until(lambda: ask(engine, "orders_amount_total").get("eu") == 4.5)
    assert set(ask(engine, "orders_amount_total")) == {"eu", "us"}


@needs_engine
def test_the_tenants_limit_of_series_holds_for_native_frames_alone(settings: Settings) -> None:
    from millstream import _core

    session = NativeSession(1)
    session.step(_core.native_hello("", "", ""))
    backend = EmbeddedBackend(settings.storage)
    with TestClient(create_app(limited_of(settings), backend)) as client:
        # Not by a route: the audit log would publish, and bring the limit along.
        rule: Any = RULE
        backend.events.create_topic(DEFAULT_TENANT_ID, "orders", {"metrics": [rule]})

        def send(sequence: int, *regions: str) -> None:
            paid = b'{"paid":true,"amount":1,"region":"%s"}'
            events = [
                ("orders", paid % region.encode(), True, None, (), None, None, None, None)
                for region in regions
            ]
            frame = session.step(_core.native_publish(sequence, events))
            assert isinstance(frame, EventFrame)
            backend.events.publish_native(DEFAULT_TENANT_ID, [frame.payload], {})

        send(1, "eu")
        wait_until(lambda: ask(client, "orders_amount_total").get("eu") == 1)
        send(2, "us", "asia", "africa", "mars")
        send(3, "eu")
        wait_until(lambda: ask(client, "orders_amount_total").get("eu") == 2)
        assert len(ask(client, "orders_amount_total")) == 3


def test_two_topics_cannot_give_one_metric(engine: TestClient) -> None:
    body = {"name": "orders", "metrics": [RULE]}
    assert engine.post("/v1/topics", json=body).status_code == 201
    again = engine.post("/v1/topics", json={**body, "name": "other"})
    assert again.status_code == 409
    assert "orders" in again.text


def test_who_may_write_a_part_of_the_metrics_sets_no_rules(site: Site) -> None:
    by = bearer(site.issue()["key"])
    body = {"name": "orders", "metrics": [RULE]}
    acl = {
        "subject": "*",
        "resource": "metric",
        "effect": "allow",
        "pattern": '{__name__="mine"}',
        "verbs": ["write"],
    }
    assert site.client.post("/v1/topics", json=body, headers=by).status_code == 201
    answer = site.client.post("/v1/admin/acls", json=acl, headers=ROOT)
    assert answer.status_code == 201, answer.text
    other = {"name": "b", "metrics": [{"metric": "other"}]}
    assert site.client.post("/v1/topics", json=other, headers=by).status_code == 403
    change = {"metrics": [{"metric": "other"}]}
    assert site.client.patch("/v1/topics/orders", json=change, headers=by).status_code == 403
    assert (
        site.client.patch("/v1/topics/orders", json={"metrics": []}, headers=by).status_code == 200
    )
    assert site.client.post("/v1/topics", json={"name": "b"}, headers=by).status_code == 201
