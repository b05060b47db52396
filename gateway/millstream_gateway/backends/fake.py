"""A backend for route tests: samples in dictionaries, and only as much PromQL as routes need.

It answers number literals and plain selectors. Whoever wants more PromQL wants a real engine.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from millstream.errors import (
    InvalidArgumentError,
    MillstreamError,
    OutOfRangeError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)
from millstream_gateway.backends.cancel import CancelSignal
from millstream_gateway.backends.events import EventStore
from millstream_gateway.backends.fake_events import FakeEvents
from millstream_gateway.backends.fake_wire import (
    Labels,
    Sample,
    decode_write_request,
    parse_exposition_line,
    parse_labels,
    unsnappy,
)
from millstream_gateway.backends.tls_files import CertificateState
from millstream_gateway.schemas.access import TenantId
from millstream_gateway.schemas.limits import SeriesLimits
from millstream_gateway.schemas.push import ItemError, PushOutcome, WriteBody
from millstream_gateway.schemas.queries import (
    ExemplarQuery,
    InstantQuery,
    MetricMetadata,
    QueryAnswer,
    RangeQuery,
    RemoteRead,
    RemoteReadAnswer,
    Selection,
)

_LOOKBACK_MS: Final = 300_000
_ERRORS_MAX: Final = 100
_SELECTOR: Final = re.compile(r"\s*([a-zA-Z_:][\w:]*)?\s*(?:\{([^}]*)\})?\s*\Z")
_METADATA_LINE: Final = re.compile(r"# (TYPE|HELP) (\S+) (.*)\Z")

_Key = frozenset[tuple[str, str]]
_Item = tuple[int, Callable[[], Sample | None]]
_T = TypeVar("_T")


class FakeBackend:
    """`Backend` in memory. A series takes samples in order of time only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._series: defaultdict[TenantId, dict[_Key, dict[int, float]]] = defaultdict(dict)
        self._metadata: defaultdict[TenantId, dict[str, MetricMetadata]] = defaultdict(dict)
        self._appended = 0
        self._series_limits: Callable[[TenantId], SeriesLimits] = lambda _tenant: SeriesLimits()
        self.events: EventStore = FakeEvents()

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        self._open = False

    def check_ready(self) -> None:
        if not self._open:
            raise UnavailableError("the engine is not open")

    def limit_series(self, limits: Callable[[TenantId], SeriesLimits]) -> None:
        self._series_limits = limits

    def push(self, tenant: TenantId, write: WriteBody) -> PushOutcome:
        now = _now_ms() if write.default_timestamp_ms is None else write.default_timestamp_ms
        match write.format:
            case "remote_write":
                return self._push(tenant, _remote_write_items(write.body))
            case "text" | "open_metrics":
                return self._push_text(tenant, write.body, now)
            case "json":
                return self._push(tenant, _json_items(write.body, now))
            case other:
                raise InvalidArgumentError(f"there is no write format {other!r} here")

    def push_all(
        self, writes: Sequence[tuple[TenantId, WriteBody]]
    ) -> list[PushOutcome | MillstreamError]:
        return [self._outcome_or_error(tenant, write) for tenant, write in writes]

    def push_lane(self, _threads: int, /) -> None:
        return None

    def query(self, tenant: TenantId, request: InstantQuery, cancel: CancelSignal) -> QueryAnswer:
        cancel.raise_if_cancelled()
        number = _number(request.expression)
        seconds = _seconds(request.time_ms)
        if number is not None:
            return _answer("scalar", [seconds, _text(number)])
        lookback = request.limits.lookback_ms or _LOOKBACK_MS
        result = []
        for labels, samples in self._select(tenant, request.expression):
            value = _latest(samples, request.time_ms, lookback)
            if value is not None:
                result.append({"metric": labels, "value": [seconds, _text(value)]})
        return _answer("vector", result)

    def query_range(
        self, tenant: TenantId, request: RangeQuery, cancel: CancelSignal
    ) -> QueryAnswer:
        cancel.raise_if_cancelled()
        steps = range(request.start_ms, request.end_ms + 1, request.step_ms)
        number = _number(request.expression)
        if number is not None:
            values = [[_seconds(step), _text(number)] for step in steps]
            return _answer("matrix", [{"metric": {}, "values": values}])
        lookback = request.limits.lookback_ms or _LOOKBACK_MS
        result = []
        for labels, samples in self._select(tenant, request.expression):
            found = [(step, _latest(samples, step, lookback)) for step in steps]
            points = [[_seconds(step), _text(v)] for step, v in found if v is not None]
            if points:
                result.append({"metric": labels, "values": points})
        return _answer("matrix", result)

    def query_exemplars(self, tenant: TenantId, request: ExemplarQuery) -> QueryAnswer:
        # It keeps no exemplars, and so has none of any series.
        _whole(tenant)
        _parse_selector(request.expression)
        return QueryAnswer(b"[]")

    def remote_read(
        self, tenant: TenantId, request: RemoteRead, cancel: CancelSignal
    ) -> RemoteReadAnswer:
        cancel.raise_if_cancelled()
        unsnappy(request.body)
        raise UnimplementedError("remote read needs a real engine")

    def series(self, tenant: TenantId, selection: Selection) -> list[dict[str, str]]:
        return _limited(self._selected(tenant, selection), selection.limit)

    def label_names(self, tenant: TenantId, selection: Selection) -> list[str]:
        names = {name for labels in self._selected(tenant, selection) for name in labels}
        return _limited(sorted(names), selection.limit)

    def label_values(self, tenant: TenantId, name: str, selection: Selection) -> list[str]:
        values = {labels[name] for labels in self._selected(tenant, selection) if name in labels}
        return _limited(sorted(values), selection.limit)

    def metadata(
        self, tenant: TenantId, metric: str, limit: int, limit_per_metric: int
    ) -> Mapping[str, Sequence[MetricMetadata]]:
        known = self._metadata[_whole(tenant)]
        names = [name for name in sorted(known) if metric in ("", name)]
        return {name: [known[name]] for name in _limited(names, limit)}

    def format_query(self, expression: str) -> str:
        if _number(expression) is None:
            _parse_selector(expression)
        return expression.strip()

    def parse_query(self, expression: str) -> bytes:
        number = _number(expression)
        if number is None:
            _parse_selector(expression)
            return b'{"type":"vectorSelector"}'
        return b'{"type":"numberLiteral","val":"%d"}' % number

    def tsdb_status(self, tenant: TenantId, limit: int) -> Mapping[str, Any]:
        return {
            "headStats": {"numSeries": len(self._series[tenant])},
            "seriesCountByMetricName": [],
            "labelValueCountByLabelName": [],
            "memoryInBytesByLabelName": [],
            "seriesCountByLabelValuePair": [],
        }

    def certificates(self) -> Sequence[CertificateState]:
        return ()

    def stats(self) -> Mapping[str, float]:
        return {
            "millstream_samples_appended_total": self._appended,
            "millstream_head_series": sum(map(len, self._series.values())),
        }

    def _outcome_or_error(
        self, tenant: TenantId, write: WriteBody
    ) -> PushOutcome | MillstreamError:
        try:
            return self.push(tenant, write)
        except MillstreamError as error:
            return error

    def _push_text(self, tenant: TenantId, body: bytes, now: int) -> PushOutcome:
        # Bytes that are not UTF-8 become surrogates, which the check of a sample refuses.
        lines = body.decode("utf-8", "surrogateescape").split("\n")
        for match in filter(None, map(_METADATA_LINE.match, filter(_is_utf8, lines))):
            old = self._metadata[tenant].get(match[2], MetricMetadata("unknown", "", ""))
            kind, text = (match[3], old.help) if match[1] == "TYPE" else (old.type, match[3])
            self._metadata[tenant][match[2]] = MetricMetadata(kind, text, "")
        return self._push(
            tenant,
            (
                (number, partial(parse_exposition_line, line, now))
                for number, line in enumerate(lines, start=1)
            ),
        )

    def _push(self, tenant: TenantId, items: Iterable[_Item]) -> PushOutcome:
        _whole(tenant)
        self.check_ready()
        stored, rejected = 0, 0
        errors: list[ItemError] = []
        for position, parse in items:
            try:
                sample = parse()
                stored += sample is not None and self._append(tenant, *sample)
            except MillstreamError as error:
                rejected += 1
                if len(errors) < _ERRORS_MAX:
                    errors.append(ItemError(position, error.code.name, error.message))
        return PushOutcome(samples=stored, rejected=rejected, errors=tuple(errors))

    def _append(self, tenant: TenantId, labels: Labels, time_ms: int, value: float) -> bool:
        if not labels.get("__name__"):
            raise InvalidArgumentError("the metric name is empty")
        if not _is_utf8("".join((*labels, *labels.values()))):
            raise InvalidArgumentError("a label is not valid UTF-8")
        most = self._series_limits(tenant).most
        with self._lock:
            known, series = self._series[tenant], frozenset(labels.items())
            if most and len(known) >= most and series not in known:
                raise ResourceExhaustedError(f"limits.max_series allows one tenant {most} series")
            samples = known.setdefault(series, {})
            if samples and time_ms < max(samples):
                raise OutOfRangeError("out of order sample")
            samples[time_ms] = value
            self._appended += 1
        return True

    def _select(self, tenant: TenantId, expression: str) -> list[tuple[Labels, dict[int, float]]]:
        wanted = _parse_selector(expression)
        with self._lock:
            return [
                (dict(sorted(key)), dict(samples))
                for key, samples in self._series[_whole(tenant)].items()
                if wanted.items() <= dict(key).items()
            ]

    def _selected(self, tenant: TenantId, selection: Selection) -> list[Labels]:
        self.check_ready()
        matching = [self._select(tenant, text) for text in selection.matchers or ("{}",)]
        unique = {
            tuple(labels.items()): labels
            for found in matching
            for labels, samples in found
            if any(selection.start_ms <= t <= selection.end_ms for t in samples)
        }
        return [unique[key] for key in sorted(unique)]


def _is_utf8(text: str) -> bool:
    return text.encode("utf-8", "replace").decode() == text


def _same(sample: Sample) -> Sample:
    return sample


def _remote_write_items(body: bytes) -> Iterable[_Item]:
    try:
        samples = list(decode_write_request(unsnappy(body)))
    except (UnicodeDecodeError, struct.error) as error:
        raise InvalidArgumentError(f"protobuf: {error}") from None
    return ((index, partial(_same, sample)) for index, sample in enumerate(samples))


def _json_items(body: bytes, now: int) -> Iterable[_Item]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidArgumentError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("metrics"), list):
        raise InvalidArgumentError('the body must be {"metrics": […]}')
    items = document["metrics"]
    return ((index, partial(_json_sample, item, now)) for index, item in enumerate(items))


def _json_sample(item: object, now_ms: int) -> Sample:
    if not isinstance(item, dict):
        raise InvalidArgumentError("a metric must be an object")
    name, value, labels = item.get("name"), item.get("value"), item.get("labels", {})
    if not isinstance(name, str):
        raise InvalidArgumentError("name must be a string")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgumentError("value must be a number")
    time_ms = item.get("timestamp", now_ms)
    if isinstance(time_ms, bool) or not isinstance(time_ms, int):
        raise InvalidArgumentError("timestamp must be an integer of milliseconds")
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise InvalidArgumentError("labels must be an object of strings")
    return {"__name__": name, **labels}, time_ms, float(value)


def _parse_selector(expression: str) -> Labels:
    match = _SELECTOR.match(expression)
    if match is None or not expression.strip():
        raise InvalidArgumentError(f"1:1: parse error: unexpected input {expression!r}")
    wanted = parse_labels(match[2] or "")
    return {"__name__": match[1], **wanted} if match[1] else wanted


def _number(expression: str) -> float | None:
    try:
        return float(expression)
    except ValueError:
        return None


def _latest(samples: dict[int, float], time_ms: int, lookback_ms: int) -> float | None:
    seen = [at for at in samples if time_ms - lookback_ms < at <= time_ms]
    return samples[max(seen)] if seen else None


def _seconds(time_ms: int) -> float | int:
    return time_ms // 1000 if time_ms % 1000 == 0 else time_ms / 1000


def _text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _answer(kind: str, result: object) -> QueryAnswer:
    return QueryAnswer(orjson.dumps({"resultType": kind, "result": result}))


def _limited(items: list[_T], limit: int) -> list[_T]:
    return items[:limit] if limit else items


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _whole(tenant: TenantId) -> TenantId:
    if tenant.scopes:
        raise UnimplementedError("the fake knows no parts of tenants")
    return tenant
