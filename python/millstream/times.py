"""Times and durations as Prometheus writes them: RFC 3339 or Unix seconds, ``5m`` or seconds.

Everything inside Millstream is int64 milliseconds since the Unix epoch; these functions turn what
people type into that.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from millstream.errors import InvalidArgumentError

__all__ = [
    "MAX_TIME_MS",
    "MIN_TIME_MS",
    "format_duration",
    "format_time",
    "parse_duration_ms",
    "parse_duration_ns",
    "parse_time_ms",
    "parse_when_ms",
]

#: The widest range of times that a request may name. Wider than any calendar, and far enough from
#: the ends of int64 that a range of them can be widened by a lookback without overflow.
MIN_TIME_MS: Final = -(2**62)
MAX_TIME_MS: Final = 2**62

#: How Prometheus writes the ends of its own times; no calendar reaches them.
_EXTREMES: Final = {
    "-292273086-05-16T16:47:06Z": MIN_TIME_MS,
    "292277025-08-18T07:12:54.999999999Z": MAX_TIME_MS,
}
_MAX_DURATION_NS: Final = 2**63 - 1
_FLOAT: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))\Z", re.ASCII
)
_DURATION: Final = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?\Z", re.ASCII
)
_UNIT_MS: Final = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1_000, 1)
_UNIT_NAMES: Final = ("y", "w", "d", "h", "m", "s", "ms")


def parse_time_ms(text: str) -> int:
    """Milliseconds since the epoch for an RFC 3339 time or for Unix seconds.

    >>> parse_time_ms("1732000000.5")
    1732000000500
    >>> parse_time_ms("2024-11-19T07:06:40Z")
    1732000000000
    """
    if text in _EXTREMES:
        return _EXTREMES[text]
    if _FLOAT.match(text):
        seconds = float(text)
        if math.isfinite(seconds):
            fraction, whole = math.modf(seconds)
            milliseconds = int(whole) * 1000 + _round_half_away(fraction * 1000)
            if MIN_TIME_MS <= milliseconds <= MAX_TIME_MS:
                return milliseconds
    elif match := _RFC3339.match(text):
        return _rfc3339_ms(text, match)
    raise InvalidArgumentError(f'cannot parse "{text}" to a valid timestamp')


def _rfc3339_ms(text: str, match: re.Match[str]) -> int:
    year, month, day, hour, minute, second, fraction, sign, offset_h, offset_m = match.groups()
    zone: timezone = UTC
    try:
        if sign is not None:
            offset = timedelta(hours=int(offset_h), minutes=int(offset_m))
            zone = timezone(-offset if sign == "-" else offset)
        moment = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=zone
        )
    except ValueError:
        raise InvalidArgumentError(f'cannot parse "{text}" to a valid timestamp') from None
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    milliseconds = int(((fraction or "") + "000")[:3])
    return (whole.days * 86_400 + whole.seconds) * 1000 + milliseconds


def _round_half_away(value: float) -> int:
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def parse_duration_ns(text: str) -> int:
    """Nanoseconds for seconds as a number, or for a duration such as ``1h30m``.

    >>> parse_duration_ns("1.5"), parse_duration_ns("1h30m")
    (1500000000, 5400000000000)
    """
    if _FLOAT.match(text):
        nanoseconds = float(text) * 1e9
        if not -_MAX_DURATION_NS <= nanoseconds < _MAX_DURATION_NS:
            raise InvalidArgumentError(
                f'cannot parse "{text}" to a valid duration. It overflows int64'
            )
        return int(nanoseconds)
    match = _DURATION.match(text)
    if not match or not text:
        raise InvalidArgumentError(f'cannot parse "{text}" to a valid duration')
    nanoseconds = 1_000_000 * sum(
        int(count) * unit for count, unit in zip(match.groups(), _UNIT_MS, strict=True) if count
    )
    if nanoseconds > _MAX_DURATION_NS:
        raise InvalidArgumentError(f'cannot parse "{text}" to a valid duration')
    return nanoseconds


def parse_duration_ms(text: str) -> int:
    """Milliseconds for a duration; what is finer than a millisecond is cut off.

    >>> parse_duration_ms("15d")
    1296000000
    """
    nanoseconds = parse_duration_ns(text)
    return nanoseconds // 1_000_000 if nanoseconds >= 0 else -(-nanoseconds // 1_000_000)


def parse_when_ms(text: str, now_ms: int) -> int:
    """As `parse_time_ms`, and also ``now`` and times relative to it: ``-1h``, ``+30s``.

    A bare signed number (``-5``) is Unix seconds; a relative time needs a unit.

    >>> parse_when_ms("-1h", now_ms=3_600_000)
    0
    """
    if text == "now":
        return now_ms
    if text[:1] in ("-", "+") and not _FLOAT.match(text) and text not in _EXTREMES:
        distance = parse_duration_ms(text[1:])
        return now_ms - distance if text[0] == "-" else now_ms + distance
    return parse_time_ms(text)


def format_duration(milliseconds: int) -> str:
    """The shortest Prometheus spelling of a duration.

    >>> format_duration(5_400_000), format_duration(0)
    ('1h30m', '0s')
    """
    if milliseconds == 0:
        return "0s"
    sign, rest, parts = ("-" if milliseconds < 0 else ""), abs(milliseconds), []
    for unit, name in zip(_UNIT_MS, _UNIT_NAMES, strict=True):
        # Years and weeks are written only when nothing is left over: 15d reads better than 2w1d.
        if name in ("y", "w") and rest % unit:
            continue
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{name}")
    return sign + "".join(parts)


def format_time(milliseconds: int) -> str:
    """RFC 3339 in UTC; plain Unix seconds outside the years 1 to 9999.

    >>> format_time(1732000000500)
    '2024-11-19T07:06:40.500Z'
    """
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return f"{milliseconds / 1000:.3f}"
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
