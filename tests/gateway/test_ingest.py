"""Remote write, text import and JSON: what is stored, what is refused, and in which words."""

from __future__ import annotations

import gzip
import time

import pytest
from fastapi.testclient import TestClient

from tests.gateway.conftest import T0
from tests.gateway.wire import snappy, write_request

PROTOBUF = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}


def values(client: TestClient, query: str, time_ms: int = T0) -> dict[str, str]:
    answer = client.get("/api/v1/query", params={"query": query, "time": time_ms / 1000}).json()
    assert answer["status"] == "success", answer
    return {item["metric"].get("host", ""): item["value"][1] for item in answer["data"]["result"]}


def test_remote_write_stores_samples_that_a_query_finds(client: TestClient) -> None:
    body = write_request(
        ({"__name__": "up", "host": "a"}, [(T0 - 1000, 1.0), (T0, 2.5)]),
        ({"__name__": "up", "host": "b"}, [(T0, -3.0)]),
    )
    answer = client.post("/api/v1/write", content=snappy(body), headers=PROTOBUF)
    assert answer.status_code == 204, answer.text
    assert answer.content == b""
    assert values(client, "up") == {"a": "2.5", "b": "-3"}


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Content-Type": "application/json"}, "application/json"),
        ({"Content-Type": "text/plain"}, "text/plain"),
        (
            {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"},
            "io.prometheus.write.v3.Request",
        ),
        ({"Content-Encoding": "gzip"}, "gzip"),
        ({"Content-Encoding": "zstd"}, "zstd"),
        ({"X-Prometheus-Remote-Write-Version": "3.0.0"}, "3.0.0"),
    ],
)
def test_remote_write_of_another_kind_is_415_and_names_it(
    client: TestClient, headers: dict[str, str], word: str
) -> None:
    answer = client.post("/api/v1/write", content=b"", headers={**PROTOBUF, **headers})
    assert answer.status_code == 415
    assert answer.json()["errorType"] == "bad_data"
    assert word in answer.json()["error"]


def test_remote_write_names_its_message_type_in_the_content_type(client: TestClient) -> None:
    headers = {**PROTOBUF, "Content-Type": "application/x-protobuf;proto=prometheus.WriteRequest"}
    assert client.post("/api/v1/write", content=snappy(b""), headers=headers).status_code == 204


def test_remote_write_keeps_good_samples_beside_a_bad_one(client: TestClient) -> None:
    body = write_request(
        ({"__name__": "good", "host": "a"}, [(T0, 1.0)]),
        ({"host": "nameless"}, [(T0, 2.0)]),
        ({"__name__": "good", "host": "b"}, [(T0, 3.0)]),
    )
    answer = client.post("/api/v1/write", content=snappy(body), headers=PROTOBUF)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert "2 samples stored, 1 refused" in answer.json()["error"]
    assert values(client, "good") == {"a": "1", "b": "3"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xff" * 40, id="not snappy"),
        pytest.param(snappy(write_request(({"__name__": "x"}, [(T0, 1)])))[:-4], id="truncated"),
        pytest.param(snappy(b"\x0a\xff\xff\xff\x07abc"), id="broken protobuf"),
    ],
)
def test_remote_write_that_cannot_be_decoded_is_400(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/v1/write", content=body, headers=PROTOBUF)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errorType"] == "bad_data"
    assert answer.json()["error"]


def test_a_snappy_bomb_is_413_before_it_is_unpacked(client: TestClient) -> None:
    bomb = b"\xff\xff\xff\xff\x0f" + b"\xfe\x01\x00" * 1000
    answer = client.post("/api/v1/write", content=bomb, headers=PROTOBUF)
    assert answer.status_code == 413
    assert "4294967295 bytes" in answer.json()["error"]
    assert "limits.remote_write_decoded_bytes" in answer.json()["error"]


def test_text_import_stores_lines_and_counts_them(client: TestClient) -> None:
    text = f'# TYPE t gauge\nt{{host="a"}} 1 {T0}\nt{{host="b"}} 2 {T0}\n'
    answer = client.post("/api/v1/import/prometheus", content=text)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"status": "success", "data": {"samples": 2}}
    assert values(client, "t") == {"a": "1", "b": "2"}


def test_text_import_names_the_bad_line_and_keeps_the_good_ones(client: TestClient) -> None:
    text = f't{{host="a"}} 1 {T0}\nt{{host="b" 2 {T0}\nt{{host="c"}} 3 {T0}\n'
    answer = client.post("/api/v1/import/prometheus", content=text)
    assert answer.status_code == 400
    assert "line 2" in answer.json()["error"]
    assert values(client, "t") == {"a": "1", "c": "3"}


def test_text_import_takes_gzip(client: TestClient) -> None:
    body = gzip.compress(f'z{{host="a"}} 7 {T0}\n'.encode())
    answer = client.post(
        "/api/v1/import/prometheus", content=body, headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 200, answer.text
    assert values(client, "z") == {"a": "7"}


@pytest.mark.parametrize(
    "body", [b"not gzip at all", gzip.compress(b"x 1\n" * 1000)[:-9]], ids=["other", "cut"]
)
def test_broken_gzip_is_400(client: TestClient, body: bytes) -> None:
    answer = client.post(
        "/api/v1/import/prometheus", content=body, headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 400
    assert "gzip" in answer.json()["error"]


def test_json_stores_items_and_counts_them(client: TestClient) -> None:
    items = [
        {"name": "cpu", "value": 75.5, "timestamp": T0, "labels": {"host": "a"}},
        {"name": "cpu", "value": 3, "timestamp": T0, "labels": {"host": "b"}, "client_id": "c"},
    ]
    answer = client.post("/metrics", json={"metrics": items})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"accepted": 2, "rejected": 0, "errors": []}
    assert values(client, "cpu") == {"a": "75.5", "b": "3"}


def test_json_without_a_timestamp_is_stored_now(client: TestClient) -> None:
    assert client.post("/metrics", json={"metrics": [{"name": "n", "value": 4}]}).is_success
    answer = client.get("/api/v1/query", params={"query": "n"}).json()
    assert [item["value"][1] for item in answer["data"]["result"]] == ["4"]


def test_json_keeps_the_items_round_a_bad_one_and_names_its_index(client: TestClient) -> None:
    items: list[object] = [
        {"name": "m", "value": index, "timestamp": T0, "labels": {"host": str(index)}}
        for index in range(10)
    ]
    items[7] = {"name": "m", "value": "seven", "timestamp": T0}
    answer = client.post("/metrics", json={"metrics": items})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["accepted"], report["rejected"]) == (9, 1)
    assert [error["index"] for error in report["errors"]] == [7]
    assert report["errors"][0]["code"] == "INVALID_ARGUMENT"
    assert sorted(values(client, "m")) == ["0", "1", "2", "3", "4", "5", "6", "8", "9"]


def test_json_of_which_no_item_is_good_is_a_problem(client: TestClient) -> None:
    answer = client.post("/metrics", json={"metrics": [{"name": "m"}, 5]})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["index"] for error in answer.json()["errors"]] == [0, 1]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"metrics":1}', b"\xff"])
def test_json_that_is_not_understood_is_a_problem(client: TestClient, body: bytes) -> None:
    answer = client.post("/metrics", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 400


def test_a_form_posted_to_the_json_route_is_415(client: TestClient) -> None:
    answer = client.post("/metrics", data={"metrics": "[]"})
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


def test_correlation_id_is_taken_or_made(client: TestClient) -> None:
    taken = client.post("/metrics", json={"metrics": []}, headers={"X-Correlation-ID": "job-7"})
    assert taken.headers["x-correlation-id"] == "job-7"
    made = client.post("/metrics", json={"metrics": []})
    assert len(made.headers["x-correlation-id"]) == 32
    refused = client.get("/health", headers={"X-Correlation-ID": "a b{}"})
    assert refused.headers["x-correlation-id"] != "a b{}"


@pytest.mark.parametrize("path", ["/api/v1/write", "/api/v1/import/prometheus", "/metrics"])
def test_writes_carry_the_headers_and_the_counters_of_every_route(
    client: TestClient, path: str
) -> None:
    answer = client.post(path, content=b"", headers={"Content-Type": "text/html"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-correlation-id"]
    counters = client.get("/metrics").text
    assert (
        f'millstream_http_requests_total{{method="POST",route="{path}",status="{answer.status_code}"}} 1.0'
        in counters
    )


def test_a_sample_far_ahead_is_refused_and_true_ones_of_its_series_go_on(
    real_client: TestClient,
) -> None:
    now = time.time_ns() // 1_000_000
    for far in (now + 660_000, now * 1000, 2**63 - 1):
        body = write_request(({"__name__": "up"}, [(far, 1.0)]))
        answer = real_client.post("/api/v1/write", content=snappy(body), headers=PROTOBUF)
        assert answer.status_code == 400
        assert "too far in the future" in answer.text
        assert "unit" in answer.text
    line = real_client.post("/write?precision=us", content=f"up value=1 {now}000000")
    assert line.status_code == 400
    assert "line 1" in line.text
    good = write_request(({"__name__": "up"}, [(now, 2.0)]))
    answer = real_client.post("/api/v1/write", content=snappy(good), headers=PROTOBUF)
    assert answer.status_code == 204
    assert values(real_client, "up", now) == {"": "2"}
