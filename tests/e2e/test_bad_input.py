"""Bad requests over a real socket: each is refused with a message that says what is wrong, and the server goes on.

Bad folders, disks and files are in test_bad_storage.py.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import promql
from tests.services.http import Client, Response
from tests.services.millstream import Millstream
from tests.services.remote_write import (
    Sample,
    Series,
    compress,
    encode_request,
    length_delimited,
    post,
    sorted_labels,
    varint,
    write,
)

pytestmark = pytest.mark.e2e

NOW_MS = time.time_ns() // 1_000_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
# Prometheus's own bit patterns (model/value): the staleness marker, and the NaN that it writes otherwise.
STALE_NAN_BITS = 0x7FF0000000000002
NORMAL_NAN_BITS = 0x7FF8000000000001


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    """One server for all bad requests of this file: none may bring it down."""
    root = tmp_path_factory.mktemp("bad_input")
    with Millstream(root / "data", root / "logs") as running:
        yield running
        assert running.returncode is None, running.log_tail()


@pytest.fixture
def client(server: Millstream) -> Iterator[Client]:
    with Client(server.url) as connection:
        yield connection
        # Whatever was sent before, the next request is served.
        assert connection.get("/-/ready").status == 200


def series(name: str, value: float = 1.0, timestamp_ms: int = NOW_MS, **labels: str) -> Series:
    return Series(sorted_labels(name, **labels), [Sample.of(timestamp_ms, value)])


def stored(
    client: Client, selector: str, time_ms: int = NOW_MS
) -> dict[promql.Labels, list[promql.Value]]:
    """All samples of the day before `time_ms`, by series."""
    answer = promql.must_ask(client, promql.Instant(f"{selector}[25h]", time_ms))
    return {labels: list(points.values()) for labels, points in answer.series.items()}


def assert_prometheus_error(response: Response, status: int, *words: str) -> None:
    """The answer is Prometheus's envelope, and its text has every one of the words (regular expressions)."""
    assert response.status == status, response.text
    assert response.headers["content-type"].startswith("application/json"), response.headers
    envelope = response.json()
    assert envelope["status"] == "error"
    for word in words:
        assert re.search(word, envelope["error"], re.IGNORECASE), (
            f"{word!r} is not in {envelope['error']!r}"
        )


def assert_problem(response: Response, status: int, *words: str) -> dict[str, Any]:
    """The answer is an RFC 9457 problem, and its detail has every one of the words."""
    assert response.status == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json"), response.headers
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    for word in words:
        assert re.search(word, problem["detail"], re.IGNORECASE), (
            f"{word!r} is not in {problem['detail']!r}"
        )
    return problem


# --- remote write: the body as a whole -------------------------------------------------------------------------------


def test_truncated_snappy_is_refused_and_stores_nothing(client: Client) -> None:
    body = compress(encode_request([series("truncated", n=str(i)) for i in range(50)]))
    for cut in (1, len(body) // 2, len(body) - 1):
        assert_prometheus_error(post(client, body[:cut]), 400, "snappy")
    assert stored(client, "truncated") == {}


def test_empty_body_is_refused(client: Client) -> None:
    assert_prometheus_error(post(client, b""), 400, "snappy")


def peak_memory_bytes(server: Millstream) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match.group(1)) * 1024


@pytest.mark.parametrize("declared", [1 << 30, (1 << 32) - 1, 31 << 20])
def test_snappy_bomb_is_refused_before_memory_is_taken(
    server: Millstream, client: Client, declared: int
) -> None:
    # A length, and a body that cannot hold so much. The last one is below any sensible limit on the length alone.
    write(client, [series("before_the_bomb")])
    before = peak_memory_bytes(server)
    response = post(client, varint(declared) + b"\x00x")
    assert response.status in (400, 413), response.text
    assert_prometheus_error(response, response.status, str(declared), "bytes")
    assert peak_memory_bytes(server) - before < 16 << 20


def test_snappy_bomb_that_does_expand_is_refused_by_its_size(client: Client) -> None:
    response = post(client, compress(b"\x00" * (64 << 20)))
    assert response.status in (400, 413), response.text
    assert_prometheus_error(response, response.status, "bytes", "limit")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x0a\xff\xff\xff\xff\x0f", id="a length past the end"),
        pytest.param(b"\x0a\x05\x0a\x03ab", id="a nested length past the end"),
        pytest.param(b"\x0b\x0c", id="a group, which proto3 has not"),
        pytest.param(b"\x0a" + b"\xff" * 11, id="a varint of eleven bytes"),
        pytest.param(b"\x08\x01", id="a number where a message belongs"),
        pytest.param(b"\x00\x00", id="field number zero"),
        pytest.param(b"just text, no protobuf", id="text"),
    ],
)
def test_broken_protobuf_is_refused_and_names_the_byte(client: Client, message: bytes) -> None:
    good = encode_request([series("beside_broken_protobuf")])
    assert_prometheus_error(post(client, compress(good + message)), 400, r"byte \d+|offset \d+")
    assert stored(client, "beside_broken_protobuf") == {}


def test_other_content_types_are_refused(client: Client) -> None:
    body = compress(encode_request([series("wrong_type")]))
    for headers, word in (
        ({"Content-Type": "text/plain", "Content-Encoding": "snappy"}, "text/plain"),
        ({"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}, "gzip"),
        (
            {
                "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v3.Request",
                "Content-Encoding": "snappy",
            },
            "io.prometheus.write.v3.Request",
        ),
    ):
        response = client.request("POST", "/api/v1/write", body=body, headers=headers)
        assert_prometheus_error(response, 415, re.escape(word))
    assert stored(client, "wrong_type") == {}


# --- remote write: one bad series among good ones --------------------------------------------------------------------

BAD_SERIES = [
    pytest.param([("__name__", b"bad\xff")], ["utf-?8"], id="a metric name that is not UTF-8"),
    pytest.param(
        [("__name__", "bad"), ("a", b"\xc3\x28")], ["utf-?8", '"a"'], id="a value that is not UTF-8"
    ),
    pytest.param(
        [("__name__", "bad"), (b"\x80", "a")], ["utf-?8"], id="a label name that is not UTF-8"
    ),
    pytest.param([("__name__", "bad"), ("a", b"\xed\xa0\x80")], ["utf-?8"], id="a lone surrogate"),
    pytest.param(
        [("__name__", "bad"), ("a", "1"), ("a", "2")],
        ["duplicate|twice", '"a"'],
        id="a duplicate label",
    ),
    pytest.param(
        [("__name__", "bad"), ("a", "1"), ("a", "1")],
        ["duplicate|twice", '"a"'],
        id="the same label twice",
    ),
    pytest.param(
        [("__name__", "bad"), ("", "x")],
        ["empty label name|label name is empty"],
        id="an empty label name",
    ),
    pytest.param([("__name__", "")], ["metric name", "empty|missing"], id="an empty metric name"),
    pytest.param([("a", "b")], ["metric name", "empty|missing"], id="no metric name"),
    pytest.param(
        [("__name__", "bad"), *((f"l{i:05}", "v") for i in range(5000))],
        ["labels", "limit"],
        id="5,001 labels",
    ),
    pytest.param(
        [("__name__", "bad"), ("n" * 100_000, "v")], ["label name", "limit"], id="a long label name"
    ),
    pytest.param(
        [("__name__", "bad"), ("a", "v" * 1_000_000)], ['"a"', "limit"], id="a long label value"
    ),
]


@pytest.mark.parametrize(("labels", "words"), BAD_SERIES)
def test_bad_series_is_refused_by_itself(
    client: Client,
    request: pytest.FixtureRequest,
    labels: list[tuple[str | bytes, str | bytes]],
    words: list[str],
) -> None:
    case = request.node.callspec.id
    bad = Series(labels, [Sample.of(NOW_MS, 666.0)])
    response = write(
        client,
        [series("beside_bad", at="0", case=case), bad, series("beside_bad", at="2", case=case)],
    )
    assert_prometheus_error(response, 400, *words)
    # The message is short whatever was sent, names the item, and quotes no control characters.
    text = response.json()["error"]
    assert len(text) < 1000
    assert re.search(r"(item|series) 1\b", text), (
        f"the message does not say that item 1 is bad: {text}"
    )
    assert len(stored(client, f'beside_bad{{case="{case}"}}')) == 2
    assert stored(client, "{__name__=~'bad.*'}") == {}


def test_unsorted_labels_are_the_same_series_as_sorted_ones(client: Client) -> None:
    pairs: list[tuple[str | bytes, str | bytes]] = [
        ("__name__", "unsorted"),
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
    ]
    for step, order in enumerate(([3, 1, 0, 2], [0, 1, 2, 3], [2, 3, 1, 0])):
        sample = Sample.of(NOW_MS - 10_000 + step, float(step))
        assert write(client, [Series([pairs[i] for i in order], [sample])]).status == 204
    assert stored(client, "unsorted") == {
        (("__name__", "unsorted"), ("a", "1"), ("b", "2"), ("c", "3")): [0.0, 1.0, 2.0]
    }


def test_sample_too_old_is_refused_and_the_message_says_how_old(client: Client) -> None:
    assert write(client, [series("too_old", 1.0, NOW_MS)]).status == 204
    # The window is a day by default; half of it is still accepted.
    assert write(client, [series("too_old", 2.0, NOW_MS - 12 * HOUR_MS)]).status == 204
    response = write(client, [series("too_old", 3.0, NOW_MS - 49 * HOUR_MS)])
    assert_prometheus_error(response, 400, "too old|out of order|out-of-order")
    answer = promql.must_ask(client, promql.Instant("too_old[100h]", NOW_MS))
    assert [list(points.values()) for points in answer.series.values()] == [[2.0, 1.0]]


def test_repeated_sample_is_no_error_and_is_stored_once(client: Client) -> None:
    for _ in range(3):
        assert write(client, [series("repeated", 5.0)]).status == 204
    assert stored(client, "repeated") == {(("__name__", "repeated"),): [5.0]}


def test_staleness_marker_ends_a_series_and_another_nan_does_not(client: Client) -> None:
    for name, bits in (("ended", STALE_NAN_BITS), ("not_a_number", NORMAL_NAN_BITS)):
        samples = [Sample.of(NOW_MS - MINUTE_MS, 1.0), Sample(NOW_MS, bits)]
        assert write(client, [Series(sorted_labels(name), samples)]).status == 204
    assert promql.must_ask(client, promql.Instant("ended", NOW_MS)).is_empty()
    assert promql.instant_value(client, "ended", NOW_MS - 1) == 1.0
    value = promql.instant_value(client, "not_a_number", NOW_MS)
    assert value is not None
    assert math.isnan(value)
    assert promql.instant_value(client, "count_over_time(ended[1h])", NOW_MS) == 1.0
    assert promql.instant_value(client, "count_over_time(not_a_number[1h])", NOW_MS) == 2.0


def test_extreme_values_and_times_come_back_to_the_bit(client: Client) -> None:
    bits = [
        0x0000000000000001,
        0x8000000000000000,
        0x000FFFFFFFFFFFFF,
        0x7FEFFFFFFFFFFFFF,
        0xFFEFFFFFFFFFFFFF,
        0x7FF0000000000000,
        0xFFF0000000000000,
        0x3FD5555555555555,
        0x400921FB54442D18,
    ]
    samples = [Sample(NOW_MS - 1000 + i, pattern) for i, pattern in enumerate(bits)]
    assert write(client, [Series(sorted_labels("extreme"), samples)]).status == 204
    (values,) = stored(client, "extreme").values()
    got = [struct.unpack("<Q", struct.pack("<d", value))[0] for value in values]
    assert got == bits


# --- JSON ------------------------------------------------------------------------------------------------------------


def post_json(client: Client, document: object) -> Response:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.request(
        "POST", "/metrics", body=body, headers={"Content-Type": "application/json"}
    )


def items(name: str, count: int) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": float(i), "timestamp": NOW_MS, "labels": {"item": str(i)}}
        for i in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"value": "12"}, ["value", "number"], id="value"),
        pytest.param({"value": None}, ["value", "number"], id="null"),
        pytest.param({"name": 7}, ["name", "string"], id="name"),
        pytest.param({"name": ""}, ["name", "empty"], id="empty"),
        pytest.param({"timestamp": "now"}, ["timestamp"], id="timestamp"),
        pytest.param({"timestamp": 1.5}, ["timestamp", "whole"], id="fraction"),
        pytest.param({"labels": ["a"]}, ["labels", "object"], id="labels"),
        pytest.param({"labels": {"a": 1}}, ["a", "string"], id="label"),
        pytest.param({"client_id": {}}, ["client_id", "string"], id="client"),
    ],
)
def test_json_of_a_wrong_type_at_item_7_leaves_the_others(
    client: Client, request: pytest.FixtureRequest, change: dict[str, Any], words: list[str]
) -> None:
    name = f"json_{request.node.callspec.id}"
    sent = items(name, 12)
    sent[6] = {**sent[6], **change}
    response = post_json(client, {"metrics": sent})
    assert response.status == 200, response.text
    answer = response.json()
    assert (answer["accepted"], answer["rejected"]) == (11, 1), answer
    (error,) = answer["errors"]
    # Indexes count from 0: the seventh item.
    assert error["index"] == 6
    for word in words:
        assert re.search(word, error["message"]), error
    present = {int(dict(labels)["item"]) for labels in stored(client, name)}
    assert present == {1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b'{"metrics":[', ["JSON"], id="cut off"),
        pytest.param(b"", ["JSON|empty"], id="empty"),
        pytest.param(b"[]", ["object"], id="an array"),
        pytest.param(b"{}", ["metrics", "missing"], id="no metrics"),
        pytest.param(b'{"metrics":{}}', ["metrics", "array"], id="metrics is an object"),
        pytest.param(b"[" * 100_000, ["JSON|deep|depth"], id="deep"),
        pytest.param(b'{"metrics":[{"name":"\xff","value":1}]}', ["JSON|UTF-8"], id="not UTF-8"),
    ],
)
def test_json_that_is_no_list_of_metrics_is_a_problem(
    client: Client, body: bytes, words: list[str]
) -> None:
    response = post_json(client, body)
    assert_problem(response, 400, *words)


def test_correlation_id_comes_back_with_an_error(client: Client) -> None:
    headers = {"Content-Type": "application/json", "X-Correlation-ID": "test-4711"}
    response = client.request("POST", "/metrics", body=b"{}", headers=headers)
    assert response.status == 400
    assert response.headers["x-correlation-id"] == "test-4711"


# --- text import -----------------------------------------------------------------------------------------------------


def test_bad_line_of_a_text_import_is_named_and_the_others_stay(client: Client) -> None:
    lines = [f'text_import{{line="{i}"}} {i} {NOW_MS}' for i in range(1, 6)]
    lines[2] = 'text_import{line="3" 3'
    response = client.request(
        "POST",
        "/api/v1/import/prometheus",
        body="\n".join([*lines, ""]).encode(),
        headers={"Content-Type": "text/plain"},
    )
    assert_prometheus_error(response, 400, r"line 3\b")
    present = {dict(labels)["line"] for labels in stored(client, "text_import")}
    assert present == {"1", "2", "4", "5"}


# --- queries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        pytest.param("", ["parse error", "no expression found"], id="empty"),
        pytest.param("sum(", ["1:5", "parse error"], id="open"),
        pytest.param(
            'up{job=~"["}', ["parse error", "regexp|missing closing"], id="regular expression"
        ),
        pytest.param("up{job=}", [r"1:8", "parse error"], id="no value"),
        pytest.param("{}", ["at least one non-empty matcher"], id="no matcher"),
        pytest.param("nosuchfunction(up)", ["1:1", "unknown function"], id="unknown function"),
        pytest.param(
            "rate(up)", ["1:6", "range vector", "instant vector"], id="not a range vector"
        ),
        pytest.param(
            "up[5m] + 1",
            ["binary expression must contain only scalar and instant vector"],
            id="range + 1",
        ),
        pytest.param(
            "1 == 1", ["comparisons between scalars must use BOOL modifier"], id="scalar comparison"
        ),
        pytest.param('-"text"', ["unary expression only allowed on"], id="minus text"),
        pytest.param("abs(up, up)", ["expected 1 argument"], id="too many arguments"),
        pytest.param("up and 1", ["set operator", "scalar"], id="set operator"),
    ],
)
def test_promql_error_is_refused_with_its_place(
    client: Client, expr: str, words: list[str]
) -> None:
    at = promql.seconds(NOW_MS)
    instant = client.post_form("/api/v1/query", {"query": expr, "time": at})
    assert_prometheus_error(instant, 400, *words)
    assert instant.json()["errorType"] == "bad_data"
    over = client.post_form(
        "/api/v1/query_range", {"query": expr, "start": at, "end": at, "step": "1"}
    )
    assert_prometheus_error(over, 400, *words)


def test_expression_that_is_nested_too_deep_is_refused_by_a_named_limit(client: Client) -> None:
    expr = "(" * 20_000 + "1" + ")" * 20_000
    response = client.post_form("/api/v1/query", {"query": expr, "time": promql.seconds(NOW_MS)})
    assert_prometheus_error(response, 422, "nested", r"\d+ levels")


def test_range_query_of_a_range_vector_is_refused(client: Client) -> None:
    form = {"query": "up[5m]", "start": "0", "end": "10", "step": "1"}
    response = client.post_form("/api/v1/query_range", form)
    assert_prometheus_error(response, 400, "invalid expression type", "range vector")


def test_many_to_many_match_is_an_execution_error(client: Client) -> None:
    assert (
        write(
            client, [series("many", a=str(a), b=str(b)) for a in range(2) for b in range(2)]
        ).status
        == 204
    )
    response = client.post_form(
        "/api/v1/query", {"query": "many * on(a) many", "time": promql.seconds(NOW_MS)}
    )
    assert_prometheus_error(response, 422, "many-to-many|duplicate series")
    assert response.json()["errorType"] == "execution"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        pytest.param(
            {"start": "100", "end": "99", "step": "1"},
            ["end timestamp must not be before start"],
            id="order",
        ),
        pytest.param(
            {"start": "0", "end": "10", "step": "0"}, ["zero or negative", "step"], id="step zero"
        ),
        pytest.param({"start": "0", "end": "10", "step": "-1"}, ["step"], id="negative step"),
        pytest.param(
            {"start": "0", "end": "10", "step": "soon"}, ["step", "soon"], id="step is a word"
        ),
        pytest.param({"start": "0", "end": "10"}, ["step"], id="no step"),
        pytest.param({"end": "10", "step": "1"}, ["start"], id="no start"),
        pytest.param(
            {"start": "yesterday", "end": "10", "step": "1"},
            ["start", "yesterday"],
            id="start is a word",
        ),
        pytest.param({"start": "0", "end": "NaN", "step": "1"}, ["end"], id="end is not a number"),
        pytest.param(
            {"start": "0", "end": "1e300", "step": "1"},
            ["end|maximum resolution"],
            id="end is out of range",
        ),
        pytest.param(
            {"start": "0", "end": "11001", "step": "1"}, ["11,000 points"], id="too many points"
        ),
        pytest.param(
            {"start": "0", "end": "10", "step": "1", "timeout": "x"}, ["timeout"], id="bad timeout"
        ),
    ],
)
def test_bad_range_is_refused(client: Client, form: dict[str, str], words: list[str]) -> None:
    response = client.post_form("/api/v1/query_range", {"query": "vector(1)", **form})
    assert_prometheus_error(response, 400, *words)
    assert response.json()["errorType"] == "bad_data"


def test_largest_allowed_range_is_answered(client: Client) -> None:
    form = {"query": "vector(1)", "start": "0", "end": "11000", "step": "1"}
    response = client.post_form("/api/v1/query_range", form)
    assert response.status == 200, response.text
    (one,) = response.json()["data"]["result"]
    assert len(one["values"]) == 11_001


def test_series_without_a_matcher_is_refused(client: Client) -> None:
    assert_prometheus_error(client.get("/api/v1/series"), 400, r"no match\[\] parameter provided")
    assert_prometheus_error(client.get("/api/v1/series", {"match[]": "up{"}), 400, "parse error")


# --- routes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v1/state",
        "/v1/nothing/x",
        "/metrics/",
        "/..%2f..%2fetc/passwd",
        "/assets/none.js",
    ],
)
def test_unknown_route_is_a_problem(client: Client, path: str) -> None:
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize(
    "path", ["/api/v1/nope", "/api/v1/", "/api/v1/query/", "/api/v1/rules/test/test"]
)
def test_unknown_prometheus_route_answers_in_its_envelope(client: Client, path: str) -> None:
    assert_prometheus_error(client.get(path), 404, "not found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/write", {"POST"}),
        ("PUT", "/api/v1/write", {"POST"}),
        ("DELETE", "/api/v1/query", {"GET", "POST"}),
        ("POST", "/api/v1/label/job/values", {"GET"}),
        ("PUT", "/metrics", {"GET", "POST"}),
        ("GET", "/api/v1/import/prometheus", {"POST"}),
        ("POST", "/-/ready", {"GET"}),
    ],
)
def test_wrong_method_is_refused_and_the_right_ones_are_named(
    client: Client, method: str, path: str, allowed: set[str]
) -> None:
    response = client.request(method, path)
    assert response.status == 405, response.text
    assert {name.strip() for name in response.headers["allow"].split(",")} >= allowed


# --- HTTP itself -----------------------------------------------------------------------------------------------------


def raw_request(server: Millstream, data: bytes) -> bytes:
    """Sends bytes as they are and returns all that comes back."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=60
    )
    try:
        connection.connect()
        connection.sock.sendall(data)
        answer = b""
        while chunk := connection.sock.recv(65536):
            answer += chunk
        return answer
    finally:
        connection.close()


def test_body_that_is_declared_too_large_is_refused_before_it_is_read(server: Millstream) -> None:
    # Only the head is sent: the answer has to come without the body.
    answer = raw_request(
        server,
        b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Encoding: snappy\r\nContent-Length: 100000000000\r\nConnection: close\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert b"limits.remote_write_bytes" in answer


def test_bytes_that_are_no_http_are_refused(server: Millstream) -> None:
    answer = raw_request(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]


def test_protobuf_field_numbers_unknown_to_1_0_are_ignored(client: Client) -> None:
    message = encode_request([series("future_field")]) + length_delimited(15, b"later")
    assert post(client, compress(message)).status == 204
    assert len(stored(client, "future_field")) == 1
