"""OpenTSDB's JSON put, and its answers."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.gateway.conftest import T0


def point(**fields: Any) -> dict[str, Any]:
    return {"metric": "sys", "timestamp": T0, "value": 1, "tags": {"host": "a"}, **fields}


def values(client: TestClient, query: str) -> dict[str, str]:
    answer = client.get("/api/v1/query", params={"query": query, "time": T0 / 1000}).json()
    assert answer["status"] == "success", answer
    return {item["metric"]["host"]: item["value"][1] for item in answer["data"]["result"]}


def test_a_point_alone_and_an_array_are_stored_and_answered_204(engine_client: TestClient) -> None:
    alone = engine_client.post("/api/put", json=point())
    array = engine_client.post(
        "/api/put",
        json=[
            point(tags={"host": "b"}, value="2.5"),
            point(tags={"host": "c"}, timestamp=T0 // 1000, value=-3),
        ],
    )
    assert (alone.status_code, alone.content) == (204, b"")
    assert (array.status_code, array.content) == (204, b"")
    assert values(engine_client, "sys") == {"a": "1", "b": "2.5", "c": "-3"}


def test_dotted_metrics_keep_their_name(engine_client: TestClient) -> None:
    assert engine_client.post("/api/put", json=point(metric="sys.cpu.nice")).status_code == 204
    assert values(engine_client, '{"sys.cpu.nice"}') == {"a": "1"}


def test_a_bad_point_is_told_and_the_others_stay(engine_client: TestClient) -> None:
    body = [point(tags={"host": "a"}), point(value="x"), point(tags={"host": "b"})]
    answer = engine_client.post("/api/put", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == 400
    assert error["message"].startswith("One or more data points had errors")
    assert "index 1: value must be a finite number" in error["message"]
    assert values(engine_client, "sys") == {"a": "1", "b": "1"}


def test_summary_counts(engine_client: TestClient) -> None:
    good = engine_client.post("/api/put?summary", json=[point()])
    assert (good.status_code, good.json()) == (200, {"success": 1, "failed": 0})
    bad = engine_client.post("/api/put?summary=true", json=[point(), point(timestamp=-1)])
    assert (bad.status_code, bad.json()) == (400, {"success": 1, "failed": 1})


def test_details_give_each_refused_point_with_its_reason(engine_client: TestClient) -> None:
    wrong = point(value="many")
    body = [point(), wrong, 7]
    answer = engine_client.post("/api/put?details", json=body)
    assert answer.status_code == 400
    assert answer.json() == {
        "success": 1,
        "failed": 2,
        "errors": [
            {"datapoint": wrong, "error": "value must be a finite number", "index": 1},
            {"datapoint": 7, "error": "a point must be an object", "index": 2},
        ],
    }
    fine = engine_client.post("/api/put?details", json=point())
    assert (fine.status_code, fine.json()) == (200, {"success": 1, "failed": 0, "errors": []})


def test_details_of_a_gzip_body_give_its_points(engine_client: TestClient) -> None:
    body = gzip.compress(b'{"metric":"","timestamp":1,"value":1}')
    answer = engine_client.post(
        "/api/put?details",
        content=body,
        headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
    )
    assert answer.json()["errors"][0]["datapoint"]["timestamp"] == 1


def test_details_of_a_point_that_stops_being_json_have_no_point(engine_client: TestClient) -> None:
    answer = engine_client.post(
        "/api/put?details",
        content=b'{"metric":"","timestamp":nonsense}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["datapoint"] is None


@pytest.mark.parametrize("body", [b"", b"{", b"7", b'"x"', b"[1,]", b"\xff"])
def test_what_is_not_understood_is_400_in_its_shape(engine_client: TestClient, body: bytes) -> None:
    answer = engine_client.post(
        "/api/put", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == 400
    assert answer.json()["error"]["message"]


def test_a_form_is_415(engine_client: TestClient) -> None:
    answer = engine_client.post("/api/put", data={"metric": "m"})
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == 415
