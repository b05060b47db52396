"""Schemas of topics over HTTP: set, shown, removed; what does not match is refused by itself."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from millstream_gateway.app import create_app
from millstream_gateway.settings import Settings
from tests.gateway.conftest import BACKENDS, backend_of

SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"type": "number", "exclusiveMinimum": 0}},
}


def served(backend: str, settings: Settings) -> Iterator[TestClient]:
    with (
        backend_of(backend, settings) as made,
        TestClient(create_app(settings, made)) as client,
    ):
        yield client


@pytest.fixture(params=BACKENDS)
def client(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    yield from served(request.param, settings)


@pytest.fixture(params=BACKENDS[1:])
def engine_client(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    yield from served(request.param, settings)


def test_a_schema_is_set_shown_and_removed(client: TestClient) -> None:
    made = client.post("/v1/topics", json={"name": "orders", "schema": SCHEMA})
    assert made.status_code == 201, made.text
    assert made.json()["schema"] == SCHEMA
    assert client.get("/v1/topics/orders").json()["schema"] == SCHEMA
    assert client.get("/v1/topics").json()["topics"][0]["schema"] == SCHEMA
    # Another change leaves it.
    changed = client.patch("/v1/topics/orders", json={"retention_ms": 1000}).json()
    assert (changed["schema"], changed["retention_ms"]) == (SCHEMA, 1000)
    assert client.patch("/v1/topics/orders", json={"schema": None}).json()["schema"] is None
    publish = {"topic": "orders", "payload": {}}
    assert client.post("/v1/events", json=publish).status_code == 202
    assert client.patch("/v1/topics/orders", json={"schema": SCHEMA}).json()["schema"] == SCHEMA
    assert client.post("/v1/events", json=publish).status_code == 400
    assert client.post("/v1/topics", json={"name": "b", "schema": None}).json()["schema"] is None
    nothing = {"properties": {"a": {"const": None, "enum": [None]}}}
    assert client.patch("/v1/topics/b", json={"schema": nothing}).json()["schema"] == nothing


def test_what_does_not_match_is_refused_and_the_others_of_its_batch_stay(
    client: TestClient,
) -> None:
    client.post("/v1/topics", json={"name": "orders", "schema": SCHEMA})
    encoded = base64.b64encode(b'{"amount": 1}').decode()
    batch = [
        {"topic": "orders", "payload": {"amount": 1}},
        {"topic": "orders", "payload": {"total": 1}},
        {"topic": "orders", "payload_base64": encoded},
        {"topic": "orders", "payload": {"amount": 2}},
    ]
    answer = client.post("/v1/events", json={"events": batch})
    assert answer.status_code == 202
    errors = [one.get("error") for one in answer.json()["events"]]
    assert [error is None for error in errors] == [True, False, False, True]
    assert errors[1]["code"] == "INVALID_ARGUMENT"
    assert 'at "": "required": there is no property "amount"' in errors[1]["message"]
    assert "must be JSON, not bytes" in errors[2]["message"]
    alone = client.post("/v1/events", json=batch[1])
    assert alone.status_code == 400
    assert '"required"' in alone.json()["detail"]
    found = client.get("/v1/topics/orders/events", params={"offset": "earliest"}).json()
    assert [one["payload"]["amount"] for one in found["events"]] == [1, 2]


def test_the_pointer_and_the_keyword_are_told(engine_client: TestClient) -> None:
    engine_client.post("/v1/topics", json={"name": "orders", "schema": SCHEMA})
    answer = engine_client.post("/v1/events", json={"topic": "orders", "payload": {"amount": 0}})
    assert answer.status_code == 400
    said = 'at "/amount": "exclusiveMinimum": it must be above 0, not 0'
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strin"}, "/type"),
        ({"$ref": "http://169.254.169.254/latest"}, "nothing is fetched"),
        ({"properties": {"a": {"pattern": "(?=x)"}}}, "/properties/a/pattern"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "no draft that is known"),
        ({"allOf": [{"$ref": "#"}]}, "circle"),
        ({"$comment": "x" * 70_000}, "at most 65536"),
        ([], ""),
        ("{}", ""),
        (True, ""),
    ],
)
def test_what_is_no_schema_is_400_and_changes_nothing(
    engine_client: TestClient, schema: Any, said: str
) -> None:
    answer = engine_client.post("/v1/topics", json={"name": "orders", "schema": schema})
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["detail"]
    assert engine_client.get("/v1/topics/orders").status_code == 404
    engine_client.post("/v1/topics", json={"name": "orders", "schema": SCHEMA})
    assert engine_client.patch("/v1/topics/orders", json={"schema": schema}).status_code == 400
    assert engine_client.get("/v1/topics/orders").json()["schema"] == SCHEMA
