"""Health, own metrics, headers, the page, and the description of the API."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from millstream_gateway.app import create_app
from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.routers import page
from millstream_gateway.settings import ServerSettings, Settings
from tests.gateway.access_support import ROOT_KEY, settings_in
from tests.gateway.conftest import needs_engine


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/-/healthy").status_code == 200
    assert client.get("/-/ready").status_code == 200
    assert client.head("/-/ready").status_code == 200


def test_not_ready_is_503_with_the_reason() -> None:
    backend = FakeBackend()
    with TestClient(create_app(backend=backend)) as client:
        backend.close()
        answer = client.get("/-/ready")
    assert answer.status_code == 503
    assert "not open" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/metrics", "/v1/metrics"])
def test_own_metrics_are_exposition(client: TestClient, path: str) -> None:
    client.get("/api/v1/labels")
    client.get("/no/such/route/at/all")
    answer = client.get(path)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    requests = families["millstream_http_requests"].samples
    seen = {(s.labels["route"], s.labels["status"]) for s in requests if s.name.endswith("_total")}
    assert ("/api/v1/labels", "200") in seen
    assert ("unmatched", "404") in seen
    for family in families.values():
        assert family.documentation.endswith("."), f"{family.name} does not say what it is"
        assert "of the engine of a node" not in family.documentation, family.name


def test_own_metrics_are_never_labelled_by_input(client: TestClient) -> None:
    evil = "evilvalue"
    client.get(f"/{evil}", headers={"X-Correlation-ID": evil, "X-Scope-OrgID": evil})
    client.request(evil.upper(), "/health")
    client.get(f"/api/v1/label/{evil}/values")
    client.get("/api/v1/query", params={"query": evil})
    assert evil not in client.get("/metrics").text.lower()


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    for path in ("/health", "/nothing", "/api/v1/query", "/", "/docs"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        # A proxy may speak TLS in front of this; here nobody did.
        assert "strict-transport-security" not in headers


def test_the_api_answers_cors_as_prometheus(client: TestClient) -> None:
    preflight = client.options("/api/v1/query", headers={"Origin": "http://grafana.local"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    answer = client.get("/api/v1/labels", headers={"Origin": "http://grafana.local"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in client.get("/api/v1/labels").headers


def test_other_routes_answer_no_cors(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"Origin": "http://evil.local"})
    assert "access-control-allow-origin" not in answer.headers


def test_cors_can_be_narrowed_to_one_origin() -> None:
    settings = Settings(server=ServerSettings(cors_origin="http://good.local"))
    with TestClient(create_app(settings, FakeBackend())) as client:
        good = client.get("/api/v1/labels", headers={"Origin": "http://good.local"})
        bad = client.get("/api/v1/labels", headers={"Origin": "http://evil.local"})
    assert good.headers["access-control-allow-origin"] == "http://good.local"
    assert "access-control-allow-origin" not in bad.headers


def test_a_page_that_was_not_built_says_so(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "STATIC_FOLDER", tmp_path)
    answer = client.get("/")
    assert answer.status_code == 503
    assert "make build" in answer.text


def test_a_built_page_is_served_with_its_assets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>page")
    (tmp_path / "assets" / "app-1a2b.js").write_text("1")
    (tmp_path / "secret.txt").write_text("no")
    monkeypatch.setattr(page, "STATIC_FOLDER", tmp_path)
    with TestClient(create_app(backend=FakeBackend())) as client:
        answer = client.get("/")
        assert answer.text.endswith("page")
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        script = client.get("/assets/app-1a2b.js")
        assert script.text == "1"
        assert script.headers["content-type"].startswith("text/javascript")
        assert "immutable" in script.headers["cache-control"]
        assert script.headers["x-content-type-options"] == "nosniff"
        assert client.get("/secret.txt").status_code == 404
        assert client.get("/assets/../secret.txt").status_code == 404
        assert client.get("/assets/%2e%2e/secret.txt").status_code == 404


def test_openapi_lists_plain_asgi_routes_too(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"post", "get"} <= paths["/metrics"].keys()
    assert "post" in paths["/api/v1/write"]
    names = [parameter["name"] for parameter in paths["/api/v1/query_range"]["get"]["parameters"]]
    assert {"query", "start", "end", "step"} <= set(names)
    assert "/api/v1/import/prometheus" in client.get("/docs").text


def test_examples_of_the_writing_routes_can_be_pasted_on_a_fresh_server(
    engine_client: TestClient,
) -> None:
    paths = engine_client.get("/openapi.json").json()["paths"]
    put = paths["/api/put"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert abs(put["timestamp"] - time.time()) < 600
    writes = ("/metrics", "/api/v1/import/prometheus", "/write", "/api/v2/write", "/api/put")
    for path in (*writes, "/v1/events"):
        operation = paths[path]["post"]
        assert operation["description"] != operation["summary"], path
        ((kind, content),) = operation["requestBody"]["content"].items()
        if path == "/v1/events":
            topic = content["example"]["topic"]
            assert f'`{{"name": "{topic}"}}`' in operation["description"]
            assert engine_client.post("/v1/topics", json={"name": topic}).status_code == 201
        example = content["example"]
        body = example if isinstance(example, str) else json.dumps(example)
        answer = engine_client.post(path, content=body, headers={"Content-Type": kind})
        assert answer.status_code in (200, 202, 204), (path, answer.text)
    for metric in ("room_celsius", "room_occupied", '{"room.celsius"}'):
        found = engine_client.get("/api/v1/query", params={"query": metric}).json()
        assert found["data"]["result"], metric


def test_every_body_but_a_protobuf_and_every_part_of_a_path_has_an_example(
    client: TestClient,
) -> None:
    lacking = []
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            lacking += [
                (method, path, media)
                for media, body in content.items()
                if "protobuf" not in media and "example" not in body
            ]
            lacking += [
                (method, path, one["name"])
                for one in operation.get("parameters", ())
                if one["in"] == "path" and "example" not in one
            ]
    assert not lacking


@needs_engine
def test_examples_of_the_administrative_routes_can_be_pasted_in_their_order(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, admin_key=ROOT_KEY)
    with TestClient(create_app(settings, EmbeddedBackend(settings.storage))) as client:
        client.headers.update({"Authorization": f"Bearer {ROOT_KEY}", "X-Scope-OrgID": "default"})
        _paste_in_order(client)


def _paste_in_order(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    made: dict[str, str] = {}
    for method, path in (
        ("post", "/v1/admin/tenants"),
        ("put", "/v1/admin/limits/{tenant}"),
        ("post", "/v1/admin/keys"),
        ("post", "/v1/admin/keys/{key_id}/rotate"),
        ("post", "/v1/admin/users"),
        ("patch", "/v1/admin/users/{name}"),
        ("post", "/v1/admin/acls"),
        ("post", "/v1/admin/revocations"),
        ("post", "/v1/admin/signing-keys/rotate"),
        ("post", "/v1/topics"),
        ("patch", "/v1/topics/{topic}"),
        ("post", "/v1/topics/subscribe"),
        ("post", "/v1/groups/{group}/offsets"),
        ("post", "/api/v1/otlp/v1/metrics"),
        ("post", "/v1/metrics"),
    ):
        operation = paths[path][method]
        url = path
        for one in operation.get("parameters", ()):
            if one["in"] == "path":
                url = url.replace(f"{{{one['name']}}}", made.get(one["name"], one["example"]))
        body = operation["requestBody"]["content"]["application/json"]["example"]
        answer = client.request(method, url, json=body)
        assert answer.status_code < 300, (path, answer.text)
        if path == "/v1/admin/keys":
            made["key_id"] = answer.json()["id"]


def test_values_that_the_document_allows_are_taken_and_others_are_refused(
    engine_client: TestClient,
) -> None:
    operation = engine_client.get("/openapi.json").json()["paths"]["/metrics"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    item = schema["properties"]["metrics"]["items"]
    assert item["properties"]["value"]["type"] == "number"
    assert item["properties"].keys() == {"name", "value", "timestamp", "labels", "client_id"}
    refused = {"name": "a", "value": "NaN"}
    assert engine_client.post("/metrics", json={"metrics": [refused]}).status_code == 400
    whole = {"name": "a", "value": 1, "timestamp": None, "labels": None, "client_id": "c"}
    assert engine_client.post("/metrics", json={"metrics": [whole]}).status_code == 200
