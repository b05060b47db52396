"""Remote read: its two forms of answer, its limits, and what it refuses."""

from __future__ import annotations

import cramjam
import pytest
from fastapi.testclient import TestClient

from millstream_gateway.app import create_app
from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.settings import LimitsSettings, Settings
from tests.gateway.conftest import T0, needs_engine
from tests.gateway.wire import field, snappy, varint

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
SAMPLES, CHUNKS = 0, 1


@pytest.fixture
def client(real_client: TestClient) -> TestClient:
    return real_client


def read_request(name: str, *types: int, kind: int = 0) -> bytes:
    matcher = b"\x08" + varint(kind) + field(2, b"__name__") + field(3, name.encode())
    times = b"\x08" + varint(T0 - 1000) + b"\x10" + varint(T0 + 1000)
    message = field(1, times + field(3, matcher))
    return snappy(message + b"".join(b"\x10" + varint(one) for one in types))


def fill(client: TestClient) -> None:
    text = f'm{{host="a"}} 1 {T0}\nm{{host="b"}} 2 {T0 + 1}\nother 3 {T0}\n'
    assert client.post("/api/v1/import/prometheus", content=text).status_code == 200


def test_samples_are_a_snappy_block(client: TestClient) -> None:
    fill(client)
    answer = client.post("/api/v1/read", content=read_request("m"), headers=HEADERS)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.headers["content-encoding"] == "snappy"
    message = bytes(cramjam.snappy.decompress_raw(answer.content))
    assert message.count(b"\x0a\x04host") == 2
    assert varint(T0 + 1) in message
    assert b"other" not in message


def test_chunks_are_a_stream_when_the_client_takes_them(client: TestClient) -> None:
    fill(client)
    body = read_request("m", CHUNKS, SAMPLES)
    answer = client.post("/api/v1/read", content=body, headers=HEADERS)
    assert answer.status_code == 200
    wanted = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    assert answer.headers["content-type"] == wanted
    assert "content-encoding" not in answer.headers
    # Two frames of a series each; the length is one byte, the checksum four.
    first = answer.content[0]
    assert len(answer.content) == first + 5 + answer.content[first + 5] + 5


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"\xff" * 40, {}, 400, id="not snappy"),
        pytest.param(snappy(b"\x0a\x7f"), {}, 400, id="broken protobuf"),
        pytest.param(read_request("(", kind=2), {}, 400, id="bad regular expression"),
        pytest.param(read_request("m", 9), {}, 400, id="no type that is offered"),
        pytest.param(b"", {"Content-Type": "application/json"}, 415, id="JSON"),
        pytest.param(b"", {"Content-Encoding": "gzip"}, 415, id="gzip"),
    ],
)
def test_what_is_not_understood_is_refused(
    client: TestClient, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/api/v1/read", content=body, headers={**HEADERS, **headers})
    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == "error"


@needs_engine
def test_the_limit_of_samples_holds(settings: Settings) -> None:
    limits = LimitsSettings(max_query_samples=1, remote_read_bytes=1024)
    settings = settings.model_copy(update={"limits": limits})
    with TestClient(create_app(settings, EmbeddedBackend(settings.storage))) as client:
        fill(client)
        answer = client.post("/api/v1/read", content=read_request("m"), headers=HEADERS)
        assert answer.status_code == 422, answer.text
        answer = client.post("/api/v1/read", content=b"x" * 1025, headers=HEADERS)
        assert answer.status_code == 413
        assert "limits.remote_read_bytes" in answer.json()["error"]


def test_a_tenant_reads_its_own_only(client: TestClient) -> None:
    fill(client)
    mine = client.post(
        "/api/v1/read", content=read_request("m"), headers={**HEADERS, "X-Scope-OrgID": "default"}
    )
    assert mine.status_code == 200
    text = f'm{{host="z"}} 9 {T0}\n'
    other = {"X-Scope-OrgID": "other"}
    assert client.post("/api/v1/import/prometheus", content=text, headers=other).is_success
    found = client.post(
        "/api/v1/read", content=read_request("m"), headers={**HEADERS, **other}
    ).content
    message = bytes(cramjam.snappy.decompress_raw(found))
    assert message.count(b"\x0a\x04host") == 1
    assert b"\x12\x01z" in message
