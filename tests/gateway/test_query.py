"""Queries and metadata: parameters as Prometheus parses them, answers in its envelope."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.gateway.conftest import T0

S0 = T0 // 1000


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    lines = [
        f'm{{host="{host}",dc="x"}} {index} {T0 + 1000 * index}\n'
        for host in "ab"
        for index in range(10)
    ]
    text = "# TYPE m gauge\n# HELP m A metric.\n" + "".join(lines) + f'n{{pod="p"}} 1 {T0}\n'
    assert client.post("/api/v1/import/prometheus", content=text).status_code == 200
    return client


def bad_data(client: TestClient, path: str, **params: str) -> str:
    answer = client.get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 400, answer.text
    assert answer.json()["status"] == "error"
    assert answer.json()["errorType"] == "bad_data"
    error: str = answer.json()["error"]
    return error


def test_instant_query_answers_a_vector(filled: TestClient) -> None:
    answer = filled.get("/api/v1/query", params={"query": 'm{host="a"}', "time": S0 + 3})
    assert answer.json() == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"__name__": "m", "dc": "x", "host": "a"}, "value": [S0 + 3, "3"]}
            ],
        },
    }
    assert answer.headers["content-type"] == "application/json"


def test_instant_query_of_a_number_answers_a_scalar(client: TestClient) -> None:
    answer = client.get("/api/v1/query", params={"query": "42", "time": "4"})
    assert answer.json()["data"] == {"resultType": "scalar", "result": [4, "42"]}


def test_query_takes_a_form(filled: TestClient) -> None:
    answer = filled.post("/api/v1/query", data={"query": "m", "time": str(S0)})
    assert len(answer.json()["data"]["result"]) == 2


def test_a_form_value_comes_before_the_urls(filled: TestClient) -> None:
    answer = filled.post(f"/api/v1/query?query=n&time={S0}", data={"query": "m"})
    assert len(answer.json()["data"]["result"]) == 2


def test_range_query_answers_a_matrix(filled: TestClient) -> None:
    params = {"query": 'm{host="b"}', "start": str(S0), "end": str(S0 + 4), "step": "2s"}
    answer = filled.get("/api/v1/query_range", params=params)
    assert answer.json()["data"] == {
        "resultType": "matrix",
        "result": [
            {
                "metric": {"__name__": "m", "dc": "x", "host": "b"},
                "values": [[S0, "0"], [S0 + 2, "2"], [S0 + 4, "4"]],
            }
        ],
    }


@pytest.mark.parametrize("time", [f"{S0}.000", "2024-11-19T07:06:40Z", "2024-11-19T08:06:40+01:00"])
def test_times_are_seconds_or_rfc3339(filled: TestClient, time: str) -> None:
    answer = filled.get("/api/v1/query", params={"query": "n", "time": time})
    assert answer.json()["data"]["result"][0]["value"] == [S0, "1"]


def test_a_time_that_is_none_is_named(client: TestClient) -> None:
    assert bad_data(client, "query", query="1", time="yesterday") == (
        'invalid parameter "time": cannot parse "yesterday" to a valid timestamp'
    )
    assert bad_data(client, "query_range", query="1", end="1", step="1") == (
        'invalid parameter "start": cannot parse "" to a valid timestamp'
    )


def test_end_before_start_is_refused(client: TestClient) -> None:
    assert bad_data(client, "query_range", query="1", start="2", end="1", step="1") == (
        'invalid parameter "end": end timestamp must not be before start time'
    )


@pytest.mark.parametrize("step", ["0", "-1", "0s", "0.0001"])
def test_step_zero_is_refused(client: TestClient, step: str) -> None:
    assert bad_data(client, "query_range", query="1", start="1", end="2", step=step) == (
        'invalid parameter "step": zero or negative query resolution step widths are not '
        "accepted. Try a positive integer"
    )


def test_a_step_that_is_none_is_named(client: TestClient) -> None:
    assert bad_data(client, "query_range", query="1", start="1", end="2", step="fast") == (
        'invalid parameter "step": cannot parse "fast" to a valid duration'
    )


def test_more_than_11000_steps_are_refused_and_11000_are_not(client: TestClient) -> None:
    assert bad_data(client, "query_range", query="1", start="0", end="11001", step="1") == (
        "exceeded maximum resolution of 11,000 points per timeseries. "
        "Try decreasing the query resolution (?step=XX)"
    )
    params = {"query": "1", "start": "0", "end": "11000", "step": "1"}
    assert client.get("/api/v1/query_range", params=params).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("timeout", "soon", 'invalid parameter "timeout": cannot parse "soon" to a valid duration'),
        ("limit", "-1", 'invalid parameter "limit": limit must be non-negative'),
        ("limit", "x", 'invalid parameter "limit": strconv.Atoi: parsing "x": invalid syntax'),
        (
            "lookback_delta",
            "x",
            'error parsing lookback delta duration: cannot parse "x" to a valid duration',
        ),
    ],
)
def test_bad_options_are_named(client: TestClient, name: str, value: str, error: str) -> None:
    assert bad_data(client, "query", query="1", **{name: value}) == error


def test_a_parse_error_names_the_parameter_and_the_position(client: TestClient) -> None:
    error = bad_data(client, "query", query="sum(")
    assert error.startswith('invalid parameter "query": 1:')
    assert "parse error: " in error


def test_limit_truncates_and_warns(filled: TestClient) -> None:
    params = {"query": "m", "time": str(S0), "limit": "1"}
    answer = filled.get("/api/v1/query", params=params).json()
    assert len(answer["data"]["result"]) == 1
    assert answer["warnings"] == ["results truncated due to limit"]
    params["limit"] = "2"
    assert "warnings" not in filled.get("/api/v1/query", params=params).json()


def test_lookback_delta_shortens_the_reach_of_a_sample(filled: TestClient) -> None:
    params = {"query": "n", "time": str(S0 + 60)}
    assert len(filled.get("/api/v1/query", params=params).json()["data"]["result"]) == 1
    params["lookback_delta"] = "30s"
    assert filled.get("/api/v1/query", params=params).json()["data"]["result"] == []


def test_stats_say_how_long_it_took(filled: TestClient) -> None:
    params = {"query": "m", "time": str(S0), "stats": "true"}
    timings = filled.get("/api/v1/query", params=params).json()["data"]["stats"]["timings"]
    assert timings["execTotalTime"] >= timings["evalTotalTime"] >= 0


def test_series_are_label_sets(filled: TestClient) -> None:
    answer = filled.get("/api/v1/series", params={"match[]": ["m", "n"]}).json()
    assert sorted(answer["data"], key=str) == [
        {"__name__": "m", "dc": "x", "host": "a"},
        {"__name__": "m", "dc": "x", "host": "b"},
        {"__name__": "n", "pod": "p"},
    ]
    limited = filled.post("/api/v1/series", data={"match[]": "m", "limit": "1"}).json()
    assert len(limited["data"]) == 1
    assert limited["warnings"] == ["results truncated due to limit"]


def test_series_needs_a_selector(client: TestClient) -> None:
    assert bad_data(client, "series") == "no match[] parameter provided"


def test_labels_and_their_values(filled: TestClient) -> None:
    assert filled.get("/api/v1/labels").json()["data"] == ["__name__", "dc", "host", "pod"]
    only = filled.get("/api/v1/labels", params={"match[]": "n"}).json()
    assert only["data"] == ["__name__", "pod"]
    assert filled.get("/api/v1/label/host/values").json()["data"] == ["a", "b"]
    assert filled.get("/api/v1/label/__name__/values").json()["data"] == ["m", "n"]
    assert filled.get("/api/v1/label/U__host/values").json()["data"] == ["a", "b"]
    assert filled.get("/api/v1/label/absent/values").json()["data"] == []
    limited = filled.get("/api/v1/label/host/values", params={"limit": "1"}).json()
    assert limited["data"] == ["a"]
    assert limited["warnings"] == ["results truncated due to limit"]


def test_metadata_has_type_help_and_unit(filled: TestClient) -> None:
    entries = filled.get("/api/v1/metadata", params={"metric": "m"}).json()["data"]
    assert entries == {"m": [{"type": "gauge", "help": "A metric.", "unit": ""}]}


def test_parse_query_answers_a_tree(client: TestClient) -> None:
    for ask in (
        client.get("/api/v1/parse_query", params={"query": "7"}),
        client.post("/api/v1/parse_query", data={"query": "7"}),
    ):
        assert ask.json() == {
            "status": "success",
            "data": {"type": "numberLiteral", "val": "7"},
        }
    assert "parse error" in bad_data(client, "parse_query", query="m{")


def test_there_are_no_rules_and_no_alerts(client: TestClient) -> None:
    for params in ({}, {"type": "alert"}, {"type": "record", "rule_name[]": "a"}):
        assert client.get("/api/v1/rules", params=params).json()["data"] == {"groups": []}
    assert client.get("/api/v1/alerts").json()["data"] == {"alerts": []}
    assert bad_data(client, "rules", type="x") == (
        'invalid parameter "type": not supported value "x"'
    )


def test_format_query_answers_text(client: TestClient) -> None:
    assert client.get("/api/v1/format_query", params={"query": "m"}).json()["data"] == "m"
    assert "parse error" in bad_data(client, "format_query", query="m{")


def test_buildinfo_speaks_for_prometheus_3(client: TestClient) -> None:
    data = client.get("/api/v1/status/buildinfo").json()["data"]
    assert data["version"].startswith("3.")
    assert "features" not in data


def test_tsdb_status_counts_series(filled: TestClient) -> None:
    data = filled.get("/api/v1/status/tsdb").json()["data"]
    assert data["headStats"]["numSeries"] == 3
    assert bad_data(filled, "status/tsdb", limit="0")


def test_engine_answers_promql(engine_client: TestClient) -> None:
    text = "".join(f'c{{host="{h}"}} {i} {T0 + 1000 * i}\n' for h in "ab" for i in range(60))
    assert engine_client.post("/api/v1/import/prometheus", content=text).status_code == 200
    params = {"query": "sum(rate(c[30s]))", "time": str(S0 + 59)}
    answer = engine_client.get("/api/v1/query", params=params).json()
    assert float(answer["data"]["result"][0]["value"][1]) == pytest.approx(2)


def test_engine_says_what_cannot_be_evaluated(engine_client: TestClient) -> None:
    text = f'l{{a="1"}} 1 {T0}\nl{{a="2"}} 1 {T0}\nr{{b="1"}} 1 {T0}\nr{{b="2"}} 1 {T0}\n'
    assert engine_client.post("/api/v1/import/prometheus", content=text).status_code == 200
    params = {"query": "l + on() r", "time": str(S0)}
    answer = engine_client.get("/api/v1/query", params=params)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errorType"] == "execution"
