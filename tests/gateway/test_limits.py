"""Rates: who is counted with whom, what a refusal says, and who is never refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from millstream_gateway.app import create_app
from millstream_gateway.backends.buckets import LocalBuckets
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.schemas.limits import Plan, Rule, Scope, Unit, limit_header, policy_header
from millstream_gateway.services.limits import everybodys
from millstream_gateway.settings import (
    AuthSettings,
    LimitsSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TenantLimits,
    load_settings,
)
from tests.gateway.access_support import ROOT, ROOT_KEY, Site, bearer
from tests.gateway.blocked_backend import BlockedBackend
from tests.gateway.wire import snappy, write_request

TIME_MS = 1_732_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def plan_of(*rules: Rule) -> Plan:
    return Plan(tenant=0, tag="0", rules=rules, policy=policy_header(rules))


def rule_of(
    per_second: int, unit: Unit = Unit.REQUESTS, burst: float = 1.0, key: str = "k"
) -> Rule:
    return Rule.make("r", Scope.CLIENT, unit, key, per_second, burst)


@contextmanager
def site(tmp_path: Path, *, keys: bool = False, **sections: Any) -> Iterator[Site]:
    settings = Settings(
        storage=StorageSettings(path=str(tmp_path / "data"), retention="100y"),
        auth=AuthSettings(admin_key=ROOT_KEY) if keys else AuthSettings(),
        **sections,
    )
    app = create_app(settings, FakeBackend())
    with TestClient(app, client=("192.0.2.7", 1234)) as client:
        made = Site(app, client, tmp_path)
        # Time stands still, so that a slow machine refills nothing.
        made.services.access.limits._buckets._clock = Clock()
        yield made


def write(client: TestClient, headers: dict[str, str] | None = None, items: int = 1) -> Any:
    body = {
        "metrics": [
            {"name": f"m{number}", "value": 1, "timestamp": TIME_MS} for number in range(items)
        ]
    }
    return client.post("/metrics", json=body, headers=headers)


@pytest.mark.parametrize("per_second", [1, 3, 7, 100, 9_999])
def test_a_full_bucket_lets_in_what_it_holds_and_then_what_comes_back(per_second: int) -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    plan = plan_of(rule_of(per_second))
    assert sum(not buckets.admit(plan, 0).refused for _ in range(3 * per_second)) == per_second
    clock.now += 1.0
    assert sum(not buckets.admit(plan, 0).refused for _ in range(3 * per_second)) == per_second
    clock.now += 3600.0
    assert sum(not buckets.admit(plan, 0).refused for _ in range(3 * per_second)) == per_second


def test_a_refusal_says_exactly_how_long_to_wait() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    plan = plan_of(rule_of(4))
    for _ in range(4):
        assert not buckets.admit(plan, 0).refused
    verdict = buckets.admit(plan, 0)
    assert verdict.wait == pytest.approx(0.25)
    clock.now += verdict.wait - 0.001
    assert buckets.admit(plan, 0).refused
    clock.now += 0.001
    assert not buckets.admit(plan, 0).refused


def test_the_long_run_is_exact_when_there_is_always_more() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    plan = plan_of(rule_of(100))
    admitted = 0
    for _ in range(60_000):
        clock.now += 0.001
        admitted += not buckets.admit(plan, 0).refused
    assert admitted == pytest.approx(100 + 60 * 100, abs=2)


def test_samples_are_paid_into_debt_and_come_back_at_their_rate() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    plan = plan_of(rule_of(1000, Unit.SAMPLES))
    assert not buckets.admit(plan, 0).refused
    buckets.charge(plan, Unit.SAMPLES, 5000)
    verdict = buckets.admit(plan, 0)
    assert verdict.refused
    assert verdict.wait == pytest.approx(4.0)
    clock.now += 4.001
    assert not buckets.admit(plan, 0).refused


def test_a_request_that_one_rule_refuses_pays_no_other() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    wide, narrow = rule_of(10, key="wide"), rule_of(1, key="narrow")
    both = plan_of(wide, narrow)
    assert not buckets.admit(both, 0).refused
    for _ in range(50):
        assert buckets.admit(both, 0).rule is narrow
    alone = plan_of(wide)
    assert sum(not buckets.admit(alone, 0).refused for _ in range(20)) == 9


def test_buckets_are_bounded_and_full_ones_are_forgotten_first() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock, buckets_max=100)
    for number in range(90):
        buckets.admit(plan_of(rule_of(100, key=f"idle{number}")), 0)
    clock.now += 10
    busy = plan_of(rule_of(1, key="busy"))
    assert not buckets.admit(busy, 0).refused
    for number in range(50):
        buckets.admit(plan_of(rule_of(1, key=f"new{number}")), 0)
    assert len(buckets) <= 100
    assert buckets.admit(busy, 0).refused
    for number in range(1000):
        buckets.admit(plan_of(rule_of(1, key=f"flood{number}")), 0)
    assert len(buckets) <= 100


def test_the_headers_are_structured_fields() -> None:
    rules = (rule_of(100), rule_of(5, Unit.BYTES, burst=10.0))
    assert policy_header(rules) == b'"r";q=100;w=1, "r";q=50;w=10;qu="content-bytes"'
    clock = Clock()
    buckets = LocalBuckets(clock)
    plan = plan_of(rule_of(2))
    assert limit_header(buckets.admit(plan, 0)) == b'"r";r=1;t=1'
    assert limit_header(buckets.admit(plan, 0)) == b'"r";r=0;t=1'
    assert limit_header(buckets.admit(plan, 0)) == b'"r";r=0;t=1'


def test_json_is_limited_to_100_requests_a_second_by_default(tmp_path: Path) -> None:
    assert LimitsSettings().json_requests_per_second == 100
    with site(tmp_path, limits=LimitsSettings(burst="1h")) as one:
        # With an hour's worth in the bucket the policy names the hour.
        answer = write(one.client)
        assert answer.headers["ratelimit-policy"] == ('"json_requests_per_second";q=360000;w=3600')
        assert answer.headers["ratelimit"].startswith('"json_requests_per_second";r=359999;t=')


def test_a_refusal_names_the_limit_its_value_and_how_to_raise_it(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(json_requests_per_second=2)) as one:
        codes = [write(one.client).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        answer = write(one.client)
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ratelimit-policy"] == '"json_requests_per_second";q=2;w=1'
    assert re.fullmatch(r'"json_requests_per_second";r=0;t=\d+', answer.headers["ratelimit"])
    problem = answer.json()
    assert problem["limit"] == "limits.json_requests_per_second"
    assert problem["value"] == 2
    assert problem["scope"] == "client"
    assert "2 requests a second" in problem["detail"]
    assert "raise" in problem["detail"]
    assert "tenants.default.limits" in problem["detail"]


@pytest.mark.parametrize("path", ["/api/v1/query?query=1", "/api/v1/labels"])
def test_a_refusal_on_prometheus_routes_is_in_its_envelope(tmp_path: Path, path: str) -> None:
    with site(tmp_path, limits=LimitsSettings(requests_per_second=1)) as one:
        assert one.client.get(path).status_code == 200
        answer = one.client.get(path)
        refused_write = one.client.post("/api/v1/write", content=b"")
    for refused in (answer, refused_write):
        assert refused.status_code == 429
        assert refused.json()["status"] == "error"
        assert "limits.requests_per_second allows one tenant 1 requests" in refused.json()["error"]
        assert refused.headers["retry-after"]


def test_health_metrics_and_administration_are_never_limited(tmp_path: Path) -> None:
    limits = LimitsSettings(
        requests_per_second=1, caller_requests_per_second=1, client_requests_per_second=1
    )
    with site(tmp_path, keys=True, limits=limits) as one:
        for _ in range(20):
            assert one.get("/health") == 200
            assert one.get("/-/ready") == 200
            assert one.get("/metrics", ROOT) == 200
            assert one.get("/v1/admin/keys", ROOT) == 200


def test_every_caller_address_and_tenant_has_a_bucket_of_its_own(tmp_path: Path) -> None:
    with site(tmp_path, keys=True, limits=LimitsSettings(caller_requests_per_second=1)) as one:
        first, second = one.headers(), one.headers()
        assert [one.get("/api/v1/labels", first) for _ in range(2)] == [200, 429]
        assert [one.get("/api/v1/labels", second) for _ in range(2)] == [200, 429]


def test_a_tenants_bucket_is_shared_by_its_callers_and_by_nobody_else(tmp_path: Path) -> None:
    with site(tmp_path, keys=True, limits=LimitsSettings(requests_per_second=1)) as one:
        first, second = one.headers(tenants=["shop"]), one.headers(tenants=["shop"])
        other = one.headers(tenants=["bank"])
        assert one.get("/api/v1/labels", first) == 200
        assert one.get("/api/v1/labels", second) == 429
        assert one.get("/api/v1/labels", other) == 200


def test_naming_another_tenant_does_not_reset_the_limit_of_an_address(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(json_requests_per_second=1)) as one:
        codes = [
            write(one.client, {"X-Scope-OrgID": f"tenant{number}"}).status_code
            for number in range(5)
        ]
    assert codes == [200, 429, 429, 429, 429]


def test_samples_and_bytes_are_charged_to_who_sent_them(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(samples_per_second=10)) as one:
        assert write(one.client, items=500).status_code == 200
        answer = write(one.client)
        assert answer.status_code == 429
        assert answer.json()["limit"] == "limits.samples_per_second"
        assert 45 <= int(answer.headers["retry-after"]) <= 50
    with site(tmp_path, limits=LimitsSettings(bytes_per_second=100)) as one:
        assert write(one.client, items=50).status_code == 200
        assert write(one.client).json()["limit"] == "limits.bytes_per_second"


def test_bytes_of_a_body_without_a_length_are_charged_as_they_come(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(bytes_per_second=100)) as one:
        chunks = iter([b"# " + b"x" * 400 + b"\n"] * 3)
        first = one.client.post("/api/v1/import/prometheus", content=chunks)
        assert first.status_code == 200
        assert "content-length" not in first.request.headers
        assert write(one.client).status_code == 429


def test_a_length_that_is_refused_anyway_is_not_owed_for_ever(tmp_path: Path) -> None:
    limits = LimitsSettings(
        bytes_per_second=1_000_000,
        json_bytes=1024,
        import_bytes=1024,
        remote_write_bytes=1024,
        otlp_bytes=1024,
    )
    with site(tmp_path, limits=limits) as one:
        answer = one.client.post(
            "/metrics", content=b"{}", headers={"Content-Length": "999999999999999"}
        )
        assert answer.status_code == 413
        assert write(one.client).status_code == 200


def test_a_tenants_own_limits_come_before_everybodys(tmp_path: Path) -> None:
    tenants = {"shop": {"limits": {"json_requests_per_second": 3}}, "lab": {"limits": {}}}
    limits = LimitsSettings(json_requests_per_second=1)
    with site(tmp_path, limits=limits, tenants=tenants) as one:

        def admitted(tenant: str) -> int:
            answers = [write(one.client, {"X-Scope-OrgID": tenant}) for _ in range(6)]
            return sum(answer.status_code == 200 for answer in answers)

        assert admitted("shop") == 3
        assert admitted("lab") == 1


def test_every_limit_of_a_tenant_is_one_of_everybody() -> None:
    for name in TenantLimits.model_fields:
        assert everybodys(name) in LimitsSettings.model_fields


def test_tenants_limits_come_from_the_file_and_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("tenants: {Shop.1: {limits: {samples_per_second: 5}}}\n")
    environ = {"MILLSTREAM_TENANTS__LAB__LIMITS__REQUESTS_PER_SECOND": "7"}
    settings = load_settings(config, None, environ)
    assert settings.tenants["Shop.1"].limits.samples_per_second == 5
    assert settings.tenants["lab"].limits.requests_per_second == 7
    with pytest.raises(ValidationError):
        Settings(tenants={"shop": {"limits": {"connections_max": 1}}})
    with pytest.raises(ValidationError):
        Settings(tenants={"a/b": {}})


FORWARDED = [
    # peer, header, value, client
    ("192.0.2.7", "x-forwarded-for", "198.51.100.1", "192.0.2.7"),
    ("10.1.2.3", "x-forwarded-for", "198.51.100.1", "198.51.100.1"),
    ("10.1.2.3", "x-forwarded-for", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
    ("10.1.2.3", "x-forwarded-for", "203.0.113.9, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
    ("10.1.2.3", "x-forwarded-for", "198.51.100.1:4711", "198.51.100.1"),
    ("10.1.2.3", "x-forwarded-for", "junk", "10.1.2.3"),
    ("10.1.2.3", "x-forwarded-for", "198.51.100.1, junk", "10.1.2.3"),
    ("10.1.2.3", "x-forwarded-for", "", "10.1.2.3"),
    ("10.1.2.3", "forwarded", "for=198.51.100.1", "10.1.2.3"),
    ("::ffff:10.1.2.3", "x-forwarded-for", "198.51.100.1", "198.51.100.1"),
    ("2001:db8::1", "x-forwarded-for", "[2001:db8:9::5]:80", "2001:db8:9::5"),
]


@pytest.mark.parametrize(("peer", "header", "value", "expected"), FORWARDED)
def test_forwarded_addresses_are_believed_from_listed_proxies_only(
    tmp_path: Path, peer: str, header: str, value: str, expected: str
) -> None:
    server = ServerSettings(trusted_proxies=("10.0.0.0/8", "2001:db8::1"))
    with site(tmp_path, server=server) as one:
        addresses = one.services.access.addresses
        assert addresses.of(peer, [(header.encode(), value.encode())]) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=198.51.100.1;proto=https", "198.51.100.1"),
        ('proto=https;For="[2001:db8:9::5]:4711"', "2001:db8:9::5"),
        ("for=203.0.113.9, for=198.51.100.1", "198.51.100.1"),
        ("for=_hidden", "10.1.2.3"),
        ("for=unknown, for=198.51.100.1", "198.51.100.1"),
        ("198.51.100.1", "10.1.2.3"),
    ],
)
def test_the_standard_header_is_read_when_it_is_the_one_to_believe(
    tmp_path: Path, value: str, expected: str
) -> None:
    server = ServerSettings(trusted_proxies=("10.0.0.0/8",), forwarded_header="forwarded")
    with site(tmp_path, server=server) as one:
        addresses = one.services.access.addresses
        headers = [(b"x-forwarded-for", b"192.0.2.66"), (b"forwarded", value.encode())]
        assert addresses.of("10.1.2.3", headers) == expected


def test_a_forwarded_header_cannot_reset_a_limit(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(json_requests_per_second=1)) as one:
        codes = [
            write(
                one.client,
                {
                    "X-Forwarded-For": f"198.51.100.{number}",
                    "Forwarded": f"for=198.51.100.{number}",
                    "X-Real-IP": f"198.51.100.{number}",
                },
            ).status_code
            for number in range(4)
        ]
    assert codes == [200, 429, 429, 429]


def test_behind_a_listed_proxy_every_client_has_a_limit_of_its_own(tmp_path: Path) -> None:
    server = ServerSettings(trusted_proxies=("192.0.2.7",))
    limits = LimitsSettings(json_requests_per_second=1)
    with site(tmp_path, server=server, limits=limits) as one:
        for number in range(3):
            # What the client wrote itself stands first and changes nothing.
            forged = {"X-Forwarded-For": f"203.0.113.5, 198.51.100.{number}"}
            assert [write(one.client, forged).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.0/40", "*"])
def test_proxies_are_addresses_or_networks(text: str) -> None:
    with pytest.raises(ValidationError):
        ServerSettings(trusted_proxies=(text,))


@pytest.mark.parametrize(
    ("limits", "own", "name"),
    [
        ({"tenant_concurrent_queries": 1}, {}, "tenant_concurrent_queries"),
        ({"caller_concurrent_queries": 1}, {}, "caller_concurrent_queries"),
        ({"client_concurrent_queries": 1}, {}, "client_concurrent_queries"),
        ({}, {"concurrent_queries": 1}, "tenant_concurrent_queries"),
    ],
)
def test_queries_beyond_those_at_a_time_are_refused_until_one_ends(
    tmp_path: Path, limits: dict[str, int], own: dict[str, int], name: str
) -> None:
    backend = BlockedBackend()
    settings = Settings(
        storage=StorageSettings(path=str(tmp_path / "data")),
        limits=LimitsSettings(**limits),
        tenants={"default": {"limits": own}},
    )

    def ask(query: str) -> Any:
        return client.get("/api/v1/query", params={"query": query})

    with TestClient(create_app(settings, backend)) as client, ThreadPoolExecutor(1) as one:
        running = one.submit(ask, "1")
        assert backend.began.acquire(timeout=20)
        refused = ask("2")
        assert refused.status_code == 429
        assert f"limits.{name} allows" in refused.json()["error"]
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-policy"] == f'"{name}";q=1;qu="concurrent-requests"'
        assert refused.headers["ratelimit"] == f'"{name}";r=0;t=1'
        assert client.get("/health").status_code == 200
        backend.go_on.set()
        assert running.result(20).status_code == 200
        assert ask("3").status_code == 200
        # A query that fails gives its place back, too.
        assert ask("sum(").status_code == 400
        assert ask("3").status_code == 200


def test_bad_credentials_are_no_callers_and_pay_nothing(tmp_path: Path) -> None:
    with site(tmp_path, keys=True, limits=LimitsSettings(client_requests_per_second=1)) as one:
        for _ in range(5):
            assert one.get("/api/v1/labels", bearer("ms_none_wrong")) == 401
        assert one.get("/api/v1/labels", ROOT) == 200


def test_remote_write_carries_what_is_left(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(requests_per_second=50)) as one:
        body = snappy(write_request(({"__name__": "m"}, [(TIME_MS, 1.0)])))
        answer = one.client.post("/api/v1/write", content=body)
        assert answer.status_code == 204
        assert answer.headers["ratelimit"] == '"requests_per_second";r=49;t=1'


@pytest.mark.parametrize(
    "limits",
    [
        {"samples_per_day": 5},
        {"samples_per_month": 5},
        {"samples_per_second": 1},
        {"caller_samples_per_second": 1},
        {"client_samples_per_second": 1},
    ],
)
def test_used_up_samples_close_no_way_that_brings_none(
    tmp_path: Path, limits: dict[str, int]
) -> None:
    (name,) = limits
    with site(tmp_path, limits=LimitsSettings(**limits)) as one:
        client = one.client
        assert write(client, items=50).status_code == 200
        event = {"payload": 1}
        for brings in ("/metrics", "/api/v1/write", "/v1/events"):
            refused = client.post(brings, json=event)
            assert refused.status_code == 429, brings
            assert name in refused.headers["ratelimit-policy"]
        for path in ("/api/v1/query?query=1", "/api/v1/labels", "/v1/topics"):
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert name not in answer.headers.get("ratelimit-policy", "")
        assert client.post("/api/v1/query", data={"query": "1"}).status_code == 200
        assert client.post("/v1/topics", json={"name": "t"}).status_code == 201
    own = {"default": {"limits": limits}}
    with site(tmp_path / "own", tenants=own) as one:
        assert write(one.client, items=50).status_code == 200
        assert write(one.client).status_code == 429
        assert one.get("/api/v1/labels") == 200


def test_a_debt_of_bytes_refuses_bodies_and_nothing_else(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(bytes_per_second=100)) as one:
        assert write(one.client, items=50).status_code == 200
        assert one.get("/api/v1/labels") == 200
        assert "ratelimit-policy" not in one.client.get("/api/v1/labels").headers
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for body in (b"query=1", iter([b"query=1"])):
            refused = one.client.post("/api/v1/query", content=body, headers=form)
            assert refused.status_code == 429
            assert "bytes_per_second" in refused.headers["ratelimit-policy"]


def test_a_read_counts_as_a_request_of_the_same_bucket_as_a_write(tmp_path: Path) -> None:
    with site(tmp_path, limits=LimitsSettings(requests_per_day=2, samples_per_day=100)) as one:
        assert write(one.client).status_code == 200
        answer = one.client.get("/api/v1/labels")
        assert answer.headers["ratelimit-policy"] == '"requests_per_day";q=2;w=86400'
        assert one.get("/api/v1/labels") == 429
