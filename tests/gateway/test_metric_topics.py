"""Samples that become events of topics: set over HTTP, fed by every kind of write, and who may ask for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from millstream_gateway.app import create_app
from millstream_gateway.backends.meta_store import Kind
from millstream_gateway.settings import Settings
from tests.gateway.access_support import ROOT, Site, bearer, settings_in, site_in
from tests.gateway.conftest import BACKENDS, T0, backend_of, wait_until
from tests.services.remote_write import (
    HEADERS,
    Sample,
    Series,
    compress,
    encode_request,
    sorted_labels,
)

ENGINES = [backend for backend in BACKENDS if backend != "fake"]
SELECTORS = ['up{job="api"}', '{__name__=~"node_.*"}']


def served(backend: str, settings: Settings) -> Iterator[TestClient]:
    with (
        backend_of(backend, settings) as made,
        TestClient(create_app(settings, made)) as client,
    ):
        yield client


@pytest.fixture(params=BACKENDS)
def client(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    yield from served(request.param, settings)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    yield from served(request.param, settings)


@pytest.fixture(params=BACKENDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with (
        backend_of(request.param, settings_in(tmp_path)) as backend,
        site_in(tmp_path, backend) as made,
    ):
        yield made


@pytest.fixture(params=ENGINES)
def engine_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with (
        backend_of(request.param, settings_in(tmp_path)) as backend,
        site_in(tmp_path, backend) as made,
    ):
        yield made


def payloads(client: TestClient, topic: str, headers: dict[str, str] | None = None) -> list[Any]:
    path = f"/v1/topics/{topic}/events"
    answer = client.get(path, params={"offset": "earliest"}, headers=headers)
    assert answer.status_code == 200, answer.text
    return [one["payload"] for one in answer.json()["events"]]


def push(client: TestClient, name: str, value: float, timestamp: int, **labels: str) -> None:
    sample = {"name": name, "labels": labels, "value": value, "timestamp": timestamp}
    answer = client.post("/metrics", json={"metrics": [sample]})
    assert answer.is_success, answer.text


def test_selectors_are_set_shown_changed_and_removed(client: TestClient) -> None:
    made = client.post("/v1/topics", json={"name": "t", "from_metrics": SELECTORS})
    assert made.status_code == 201, made.text
    assert made.json()["from_metrics"] == SELECTORS
    assert client.get("/v1/topics").json()["topics"][0]["from_metrics"] == SELECTORS
    # Another change leaves them, and so does null.
    for change in ({"retention_ms": 1000}, {"from_metrics": None}):
        assert client.patch("/v1/topics/t", json=change).json()["from_metrics"] == SELECTORS
    changed = client.patch("/v1/topics/t", json={"from_metrics": SELECTORS[:1]})
    assert changed.json()["from_metrics"] == SELECTORS[:1]
    assert client.patch("/v1/topics/t", json={"from_metrics": []}).json()["from_metrics"] == []
    assert client.post("/v1/topics", json={"name": "b"}).json()["from_metrics"] == []


def test_samples_that_a_selector_matches_are_events_when_the_write_is_answered(
    engine: TestClient,
) -> None:
    engine.post("/v1/topics", json={"name": "health", "from_metrics": SELECTORS[:1]})
    push(engine, "up", 1, T0, job="api")
    push(engine, "up", 1, T0, job="db")
    push(engine, "up", 0, T0 + 1000, job="api")
    assert payloads(engine, "health") == [
        {"name": "up", "labels": {"job": "api"}, "value": 1, "timestamp": T0},
        {"name": "up", "labels": {"job": "api"}, "value": 0, "timestamp": T0 + 1000},
    ]
    engine.patch("/v1/topics/health", json={"from_metrics": []})
    push(engine, "up", 1, T0 + 2000, job="api")
    assert len(payloads(engine, "health")) == 2
    page = engine.get("/metrics").text
    assert "millstream_feed_events_total 2.0\n" in page


def test_every_kind_of_write_feeds_topics(engine: TestClient) -> None:
    engine.post("/v1/topics", json={"name": "t", "from_metrics": ['{way!=""}']})
    written = Series(sorted_labels("m", way="remote"), [Sample.of(T0, 1.0)])
    remote = compress(encode_request([written]))
    point: dict[str, Any] = {"asDouble": 1, "timeUnixNano": str(T0 * 1_000_000)}
    point["attributes"] = [{"key": "way", "value": {"stringValue": "otlp"}}]
    otlp = {"name": "m", "gauge": {"dataPoints": [point]}}
    tsdb = {"metric": "m", "timestamp": T0, "value": 1, "tags": {"way": "opentsdb"}}
    push(engine, "m", 1, T0, way="json")
    asked = [
        engine.post("/api/v1/write", content=remote, headers=HEADERS),
        engine.post("/write", content=f"m,way=influx value=1 {T0}000000"),
        engine.post("/api/put", json=tsdb),
        engine.post("/metrics/job/j", content='m{way="pushed"} 1\n'),
        engine.post(
            "/v1/metrics", json={"resourceMetrics": [{"scopeMetrics": [{"metrics": [otlp]}]}]}
        ),
    ]
    assert [answer.status_code for answer in asked if not answer.is_success] == []
    ways = {one["labels"]["way"] for one in payloads(engine, "t")}
    assert ways == {"json", "remote", "influx", "opentsdb", "pushed", "otlp"}


@pytest.mark.parametrize(
    ("selectors", "said"),
    [
        (["up", "up{"], "from_metrics[1]: 1:4: parse error"),
        (['up{job=~"("}'], "from_metrics[0]"),
        (["rate(up[5m])"], "from_metrics[0]"),
        (["{}"], "from_metrics[0]"),
        ([""], ""),
        (["m" * 4097], ""),
        ("up", ""),
        ([1], ""),
        (["m"] * 17, ""),
    ],
)
def test_what_is_no_selector_is_400_and_changes_nothing(
    engine: TestClient, selectors: Any, said: str
) -> None:
    answer = engine.post("/v1/topics", json={"name": "t", "from_metrics": selectors})
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["detail"]
    assert engine.get("/v1/topics/t").status_code == 404
    engine.post("/v1/topics", json={"name": "t", "from_metrics": SELECTORS})
    assert engine.patch("/v1/topics/t", json={"from_metrics": selectors}).status_code == 400
    assert engine.get("/v1/topics/t").json()["from_metrics"] == SELECTORS


def test_a_topic_gets_samples_of_its_own_tenant_only(engine_site: Site) -> None:
    site = engine_site
    for tenant in ("shop", "bank"):
        made = site.client.post("/v1/admin/tenants", json={"name": tenant}, headers=ROOT)
        assert made.status_code == 201, made.text
    shop, bank = site.headers(tenants=["shop"]), site.headers(tenants=["bank"])
    body = {"name": "t", "from_metrics": ['{__name__=~".+"}']}
    assert site.client.post("/v1/topics", json=body, headers=bank).status_code == 201
    assert site.push(shop, "secret") in (200, 202, 204)
    assert payloads(site.client, "t", bank) == []
    assert site.client.post("/v1/topics", json=body, headers=shop).status_code == 201
    assert site.push(shop, "other") in (200, 202, 204)
    assert site.push(bank, "own") in (200, 202, 204)
    for tenant, name in ((shop, "other"), (bank, "own")):
        assert [one["name"] for one in payloads(site.client, "t", tenant)] == [name]


@pytest.mark.parametrize(
    ("effect", "pattern", "within"),
    [
        ("allow", '{team="a"}', 'up{team="a"}'),
        ("deny", '{env="prod"}', 'up{env!="prod"}'),
    ],
)
def test_selectors_show_nothing_that_their_setter_may_not_read(
    site: Site, effect: str, pattern: str, within: str
) -> None:
    by = bearer(site.issue()["key"])
    body = {"name": "t", "from_metrics": ["up"]}
    acl = {
        "subject": "*",
        "resource": "metric",
        "effect": effect,
        "pattern": pattern,
        "verbs": ["read"],
    }
    assert site.client.post("/v1/topics", json=body, headers=by).status_code == 201
    added = site.client.post("/v1/admin/acls", json=acl, headers=ROOT)
    assert added.status_code == 201, added.text
    refused = site.client.post("/v1/topics", json={**body, "name": "b"}, headers=by)
    assert refused.status_code == 403
    assert "must lie within" in refused.json()["detail"]
    for selectors in (["up"], [within, "up"]):
        change = {"from_metrics": selectors}
        assert site.client.patch("/v1/topics/t", json=change, headers=by).status_code == 403
    for selectors in ([within], []):
        change = {"from_metrics": selectors}
        changed = site.client.patch("/v1/topics/t", json=change, headers=by)
        assert changed.status_code == 200, changed.text
        assert changed.json()["from_metrics"] == selectors
    wrong = site.client.patch("/v1/topics/t", json={"from_metrics": ["up{"]}, headers=by)
    assert wrong.status_code == 400


def deny(site: Site, subject: str, pattern: str) -> str:
    acl = {"subject": subject, "resource": "metric", "effect": "deny", "pattern": pattern}
    added = site.client.post("/v1/admin/acls", json={**acl, "verbs": ["read"]}, headers=ROOT)
    assert added.status_code == 201, added.text
    acl_id: str = added.json()["id"]
    return acl_id


def selectors_of(site: Site, topic: str) -> list[str]:
    found: list[str] = site.client.get(f"/v1/topics/{topic}", headers=ROOT).json()["from_metrics"]
    return found


def feeds(site: Site) -> set[str]:
    return set(site.services.access.store.snapshot().of_kind(Kind.FEED))


def test_a_feed_ends_when_access_lists_take_the_right_of_its_setter(engine_site: Site) -> None:
    site = engine_site
    key = site.issue()
    by = bearer(key["key"])
    for name, selector, headers in (
        ("mine", "secret", by),
        ("within", "up", by),
        ("roots", "secret", ROOT),
    ):
        body = {"name": name, "from_metrics": [selector]}
        assert site.client.post("/v1/topics", json=body, headers=headers).status_code == 201
    assert feeds(site) == {"0/mine", "0/within", "0/roots"}
    for name in ("secret", "up"):
        assert site.push(ROOT, name, 1) == 200
    deny(site, f"key:{key['id']}", '{__name__="secret"}')
    wait_until(lambda: selectors_of(site, "mine") == [])
    assert (selectors_of(site, "within"), selectors_of(site, "roots")) == (["up"], ["secret"])
    for name in ("secret", "up"):
        assert site.push(ROOT, name, 2, host="b") == 200
    counts = [len(payloads(site.client, name, ROOT)) for name in ("mine", "within", "roots")]
    assert counts == [1, 2, 2]
    wait_until(lambda: feeds(site) == {"0/within", "0/roots"})
    audit = (site.folder / "data" / "meta" / "audit.jsonl").read_text().splitlines()
    (ended,) = (line for line in map(json.loads, audit) if line["action"] == "topic.feed")
    assert (ended["topic"], ended["outcome"], ended["actor"]["id"]) == (
        "mine",
        "forbidden",
        key["id"],
    )
    # It comes back with the right when it is set again, and not by itself.
    assert selectors_of(site, "mine") == []


def test_a_feed_is_of_whoever_set_it_last_and_of_nobody_when_it_is_over(site: Site) -> None:
    key = site.issue()
    by = bearer(key["key"])
    for name in ("a", "b", "c"):
        body = {"name": name, "from_metrics": ["secret"]}
        assert site.client.post("/v1/topics", json=body, headers=by).status_code == 201
        again = site.client.post("/v1/topics", json=body, headers=ROOT)
        assert again.status_code == 409
    change = {"from_metrics": ["secret", "up"]}
    assert site.client.patch("/v1/topics/a", json=change, headers=ROOT).status_code == 200
    # Another change takes nobody's place.
    assert site.client.patch("/v1/topics/b", json={"retention_ms": 1000}, headers=ROOT).is_success
    assert site.client.patch("/v1/topics/c", json={"from_metrics": []}, headers=ROOT).is_success
    assert feeds(site) == {"0/a", "0/b"}
    deny(site, f"key:{key['id']}", '{__name__="secret"}')
    wait_until(lambda: selectors_of(site, "b") == [])
    assert selectors_of(site, "a") == ["secret", "up"]
    assert site.client.delete("/v1/topics/a", headers=ROOT).status_code == 204
    assert feeds(site) == set()


def test_feeds_are_asked_for_again_after_a_restart(tmp_path: Path) -> None:
    with (
        backend_of("embedded", settings_in(tmp_path)) as backend,
        site_in(tmp_path, backend) as site,
    ):
        by = site.headers()
        body = {"name": "t", "from_metrics": ["secret"]}
        assert site.client.post("/v1/topics", json=body, headers=by).status_code == 201
    command = [sys.executable, "-m", "millstream", "acl", "create", "--subject", "role:user"]
    command += ["--effect", "deny", "--pattern", "secret", "--data", str(tmp_path / "data")]
    subprocess.run(command, check=True, capture_output=True)
    with (
        backend_of("embedded", settings_in(tmp_path)) as backend,
        site_in(tmp_path, backend) as site,
    ):
        wait_until(lambda: selectors_of(site, "t") == [])


def test_who_may_only_write_sets_no_selectors(site: Site) -> None:
    by = site.headers(verbs=["write"])
    refused = site.client.post("/v1/topics", json={"name": "t", "from_metrics": ["up"]}, headers=by)
    assert refused.status_code == 403
    assert site.client.get("/v1/topics/t", headers=ROOT).status_code == 404
