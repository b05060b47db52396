"""The comparison that the agreement tests rest on sees what it has to see."""

from __future__ import annotations

import math

import pytest

from tests.services import promql

QUERY = promql.Instant("m", 1000)


def vector(*series: tuple[dict[str, str], str]) -> promql.Answer:
    result = [{"metric": labels, "value": [1.0, value]} for labels, value in series]
    return promql.parse_data({"resultType": "vector", "result": result})


def histogram(count: str) -> promql.Answer:
    shown = {"count": count, "sum": "3", "buckets": [[0, "1", "2", count]]}
    return promql.parse_data(
        {"resultType": "vector", "result": [{"metric": {"a": "b"}, "histogram": [1.0, shown]}]}
    )


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (vector(({"a": "b"}, "1")), vector(({"a": "b"}, "1.00000001"))),
        (vector(({"a": "b"}, "0")), vector(({"a": "b"}, "1e-300"))),
        (vector(({"a": "b"}, "NaN")), vector(({"a": "b"}, "1"))),
        (vector(({"a": "b"}, "+Inf")), vector(({"a": "b"}, "-Inf"))),
        (vector(({"a": "b"}, "+Inf")), vector(({"a": "b"}, "1.7976931348623157e308"))),
        (vector(({"a": "b"}, "1")), vector(({"a": "c"}, "1"))),
        (vector(({"a": "b"}, "1")), vector()),
        (vector(), vector(({"a": "b"}, "1"))),
        (histogram("1"), histogram("2")),
        (histogram("1"), vector(({"a": "b"}, "1"))),
        (vector(({"a": "b"}, "1")), promql.QueryError(422, "execution", "no")),
        (promql.QueryError(422, "execution", "no"), promql.QueryError(422, "execution", "no")),
    ],
)
def test_unlike_answers_differ(
    expected: promql.Answer | promql.QueryError, actual: promql.Answer | promql.QueryError
) -> None:
    assert promql.compare(QUERY, expected, actual).differences


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (vector(({"a": "b"}, "1")), vector(({"a": "b"}, "1.0000000001"))),
        (vector(({"a": "b"}, "NaN")), vector(({"a": "b"}, "NaN"))),
        (vector(({"a": "b"}, "-Inf")), vector(({"a": "b"}, "-Inf"))),
        (
            vector(({"a": "b"}, "1"), ({"a": "c"}, "2")),
            vector(({"a": "c"}, "2"), ({"a": "b"}, "1")),
        ),
        (histogram("1"), histogram("1")),
    ],
)
def test_like_answers_agree(expected: promql.Answer, actual: promql.Answer) -> None:
    assert not promql.compare(QUERY, expected, actual).differences


def test_order_counts_only_where_it_is_promised() -> None:
    one = vector(({"a": "b"}, "1"), ({"a": "c"}, "2"))
    other = vector(({"a": "c"}, "2"), ({"a": "b"}, "1"))
    assert promql.compare(QUERY, one, other, ordered=True).differences
    assert not promql.compare(QUERY, one, other).differences


def test_difference_names_query_labels_time_and_both_values() -> None:
    (difference,) = promql.compare(
        QUERY, vector(({"a": "b"}, "1")), vector(({"a": "b"}, "2"))
    ).differences
    text = str(difference)
    for part in ("'m'", "{'a': 'b'}", "1.000", "1.0", "2.0"):
        assert part in text


def test_doubled_series_in_an_answer_is_refused() -> None:
    with pytest.raises(AssertionError, match="twice"):
        vector(({"a": "b"}, "1"), ({"a": "b"}, "1"))


def test_seconds_are_exact_for_negative_times() -> None:
    assert promql.seconds(-1) == "-0.001"
    assert promql.seconds(-1500) == "-1.500"
    assert math.isclose(float(promql.seconds(1_732_000_000_123)), 1732000000.123)
