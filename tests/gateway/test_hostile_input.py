"""Whatever is sent, the answer is a good one or names the caller's fault: never 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream_gateway.app import create_app
from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.settings import Settings, StorageSettings
from tests.gateway.conftest import HAS_ENGINE

EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
NAMES = st.sampled_from(
    [
        "query",
        "time",
        "start",
        "end",
        "step",
        "timeout",
        "limit",
        "lookback_delta",
        "stats",
        "match[]",
        "metric",
        "limit_per_metric",
        "x",
    ]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["0", "-1", "1e308", "NaN", "5m", "1", "9999999999999", "1e-9", "{", "m", "m{}"]
    ),
    st.floats().map(str),
    st.integers().map(str),
)
ROUTES = st.sampled_from(
    [
        "query",
        "query_range",
        "series",
        "labels",
        "label/a/values",
        "label/U__a_2e_b/values",
        "metadata",
        "format_query",
        "parse_query",
        "rules",
        "alerts",
        "status/tsdb",
        "status/buildinfo",
    ]
)


@pytest.fixture(scope="module", params=["fake", "embedded"])
def shared(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    if request.param == "fake":
        app = create_app(backend=FakeBackend())
    elif HAS_ENGINE:
        storage = StorageSettings(path=":memory:")
        app = create_app(Settings(storage=storage), EmbeddedBackend(storage))
    else:
        pytest.skip("the compiled engine is not built")
    with TestClient(app) as client:
        yield client


@EXAMPLES
@given(ROUTES, st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_any_parameters(shared: TestClient, route: str, pairs: list[tuple[str, str]]) -> None:
    form = {name: [value for key, value in pairs if key == name] for name, _ in pairs}
    for answer in (
        shared.get(f"/api/v1/{route}", params=form),
        shared.post(f"/api/v1/{route}", data=form),
    ):
        document = answer.json()
        if document.get("errorType") == "timeout":
            # A tiny timeout is legal, and may well pass before the answer.
            assert (answer.status_code, "timeout" in form) == (503, True), answer.text
            continue
        assert answer.status_code in (200, 400, 405, 422), answer.text
        assert document["status"] == ("success" if answer.status_code == 200 else "error")


@EXAMPLES
@given(
    st.sampled_from(["/api/v1/write", "/api/v1/import/prometheus", "/metrics"]),
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='m{}"\\=,.# 019e+-NaNTYPE\n', max_size=100).map(str.encode),
        st.text(alphabet='{}[]":,metrics01e-.nulltruefalse', max_size=100).map(str.encode),
    ),
    st.sampled_from(["", "gzip", "snappy", "br"]),
)
def test_any_bodies(shared: TestClient, path: str, body: bytes, encoding: str) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    answer = shared.post(path, content=body, headers=headers)
    assert answer.status_code in (200, 204, 400, 413, 415), answer.text


@EXAMPLES
@given(st.text(max_size=40), st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]))
def test_any_paths(shared: TestClient, path: str, method: str) -> None:
    answer = shared.request(method, "/" + quote(path))
    assert answer.status_code < 500 or answer.url.path == "/"
