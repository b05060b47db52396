"""Times and durations, with Prometheus's limits and words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import InvalidArgumentError
from millstream.times import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    format_duration,
    format_time,
    parse_duration_ms,
    parse_duration_ns,
    parse_time_ms,
    parse_when_ms,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("1.5", 1500),
        ("-1.5", -1500),
        ("1e3", 1_000_000),
        (".25", 250),
        ("1732000000.1234", 1_732_000_000_123),
        ("1732000000.9996", 1_732_000_001_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2024-02-29T12:00:00.5+05:30", 1_709_188_200_500),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
    ],
)
def test_times_that_are_understood(text: str, milliseconds: int) -> None:
    assert parse_time_ms(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("-292273086-05-16T16:47:06Z", MIN_TIME_MS),
        ("292277025-08-18T07:12:54.999999999Z", MAX_TIME_MS),
    ],
)
def test_ends_of_the_times_of_prometheus_are_those_of_ours(text: str, milliseconds: int) -> None:
    assert parse_time_ms(text) == milliseconds
    assert parse_when_ms(text, now_ms=0) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "NaN",
        "inf",
        "1_000",
        " 1",
        "1 ",
        "0x10",
        "1e400",
        "1e30",
        "2024-01-01",
        "2024-13-01T00:00:00Z",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00:00Z",
        "2024-01-01T00:00:00+99:00",
        "١٢",
    ],
)
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="to a valid timestamp"):
        parse_time_ms(text)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1y2w3d4h5m6s7ms", 33_019_506_007),
        ("0", 0),
        ("0.5", 500),
        ("-2", -2000),
        ("0s", 0),
    ],
)
def test_durations_that_are_understood(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "m", "5 m", "1m1h", "5x", "1.5h", "-5m", "300y", "NaN"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="to a valid duration"):
        parse_duration_ms(text)


def test_a_duration_over_int64_nanoseconds_says_so() -> None:
    with pytest.raises(InvalidArgumentError, match="It overflows int64"):
        parse_duration_ns("1e10")


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("now", 10_000), ("-5s", 5_000), ("+1m", 70_000), ("-5", -5000), ("3", 3000)],
)
def test_relative_times(text: str, milliseconds: int) -> None:
    assert parse_when_ms(text, 10_000) == milliseconds


@given(st.integers(min_value=0, max_value=2**63 // 1_000_000))
def test_durations_round_trip(milliseconds: int) -> None:
    assert parse_duration_ms(format_duration(milliseconds)) == milliseconds


@given(st.integers(min_value=-62_135_596_800_000, max_value=253_402_300_799_999))
def test_times_round_trip(milliseconds: int) -> None:
    assert parse_time_ms(format_time(milliseconds)) == milliseconds


def test_times_beyond_the_calendar_are_seconds() -> None:
    assert format_time(MAX_TIME_MS) == f"{MAX_TIME_MS / 1000:.3f}"
