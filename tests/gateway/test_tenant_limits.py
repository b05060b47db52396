"""/v1/admin/limits: what holds for a tenant, changed while the server runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from millstream_gateway.app import create_app
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.settings import AuthSettings, LimitsSettings, Settings, StorageSettings
from tests.gateway.access_support import ROOT, ROOT_KEY, Site, bearer


class Clock:
    """Stands still, so that a slow machine refills nothing."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = Settings(
        storage=StorageSettings(path=str(tmp_path / "data"), retention="100y"),
        auth=AuthSettings(admin_key=ROOT_KEY),
        limits=LimitsSettings(requests_per_second=3),
        tenants={"lab": {"limits": {"requests_per_second": 5}}},
    )
    app = create_app(settings, FakeBackend())
    with TestClient(app) as client:
        made = Site(app, client, tmp_path)
        made.services.access.limits._buckets._clock = Clock()
        yield made


def admitted(site: Site, tenant: str, tries: int = 12) -> int:
    codes = [site.get("/api/v1/labels", bearer(ROOT_KEY, tenant)) for _ in range(tries)]
    assert set(codes) <= {200, 429}
    return codes.count(200)


def put(site: Site, tenant: str, limits: Any, headers: Any = ROOT) -> Any:
    return site.client.put(f"/v1/admin/limits/{tenant}", json=limits, headers=headers)


def test_what_is_put_holds_at_once_and_for_that_tenant_alone(site: Site) -> None:
    for tenant in ("shop", "bank", "lab"):
        site.issue(tenants=[tenant])
    assert admitted(site, "shop") == 3
    answer = put(site, "shop", {"requests_per_second": 10})
    assert answer.status_code == 200
    assert answer.json()["stored"] == {"requests_per_second": 10}
    assert answer.json()["effective"]["requests_per_second"] == 10
    assert answer.json()["effective"]["json_requests_per_second"] == 100
    site.services.access.limits._buckets._clock.now += 1  # type: ignore[attr-defined]
    assert admitted(site, "shop") == 10
    assert admitted(site, "bank") == 3
    assert admitted(site, "lab") == 5


def test_stored_limits_come_before_configured_and_go_when_deleted(site: Site) -> None:
    site.issue(tenants=["lab"])
    assert put(site, "lab", {"requests_per_second": 0}).status_code == 200
    assert admitted(site, "lab") == 12
    answer = site.client.delete("/v1/admin/limits/lab", headers=ROOT)
    assert answer.status_code == 200
    assert answer.json()["stored"] == {}
    assert answer.json()["configured"] == {"requests_per_second": 5}
    assert answer.json()["effective"]["requests_per_second"] == 5
    assert admitted(site, "lab") == 5


def test_quotas_show_what_is_used(site: Site) -> None:
    limits = {"samples_per_day": 4, "requests_per_month": 100, "requests_per_second": 0}
    assert put(site, "shop", limits).status_code == 200
    headers = bearer(ROOT_KEY, "shop")
    assert [site.push(headers, f"m{number}") for number in range(5)] == [200] * 4 + [429]
    shown = site.client.get("/v1/admin/limits/shop", headers=ROOT).json()
    assert shown["used"]["samples_per_day"] == 4
    assert shown["used"]["requests_per_month"] == 4
    everyone = site.client.get("/v1/admin/limits", headers=ROOT).json()["tenants"]
    assert {one["tenant"] for one in everyone} == {"default", "shop"}


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"connections_max": 1}, "connections_max: there is no such limit"),
        ({"requests_per_second": -1}, "requests_per_second"),
        ({"requests_per_second": 10**10}, "requests_per_second"),
        ({"requests_per_second": "many"}, "requests_per_second"),
        ([1], ""),
    ],
)
def test_what_is_no_limit_is_refused_by_name(site: Site, limits: Any, word: str) -> None:
    answer = put(site, "shop", limits)
    assert answer.status_code == 400
    assert word in answer.json()["detail"]
    assert site.client.get("/v1/admin/limits/shop", headers=ROOT).status_code == 404


def test_a_tenants_own_administrator_sees_its_limits_and_raises_none(site: Site) -> None:
    assert put(site, "bank", {"samples_per_day": 7}).status_code == 200
    mine = site.headers(role="admin", tenants=["shop"])
    shown = site.client.get("/v1/admin/limits", headers=mine).json()["tenants"]
    assert [one["tenant"] for one in shown] == ["shop"]
    refused = put(site, "shop", {"requests_per_second": 0}, mine)
    assert refused.status_code == 403
    assert "does not have every tenant" in refused.json()["detail"]
    assert site.client.delete("/v1/admin/limits/shop", headers=mine).status_code == 403
    # The same words for a tenant that is there and for one that is not.
    answers = [
        site.client.get(f"/v1/admin/limits/{name}", headers=mine) for name in ("bank", "nobody")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


@pytest.mark.parametrize("role", ["user", "readonly"])
def test_nobody_else_gets_to_limits(site: Site, role: str) -> None:
    headers = site.headers(role=role)
    assert site.get("/v1/admin/limits", headers) == 403
    assert put(site, "default", {}, headers).status_code == 403


@pytest.mark.parametrize("tenant", ["..", "a b", "%2e%2e", "a" * 151])
def test_only_tenants_have_limits(site: Site, tenant: str) -> None:
    assert put(site, tenant, {}).status_code in (400, 404, 405)
