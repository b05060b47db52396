"""Every way in: one sample of one series through each form and each listener.

A way that is not HTTP writes into the tenant that `listening` gives its listener.
"""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fastapi.testclient import TestClient
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from millstream import native
from millstream_gateway.app import create_app
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.settings import GraphiteSettings, NativeSettings, StatsdSettings
from tests.gateway import wire
from tests.gateway.access_support import ROOT_KEY, TIME_MS, Headers, Site, settings_in
from tests.gateway.test_otlp import as_protobuf, gauge, point
from tests.gateway.test_remote_write_2 import HEADERS as WRITE_2
from tests.gateway.test_remote_write_2 import Message, sample

Labels = Mapping[str, str]
#: The HTTP status, or 0 where nobody is told.
Way = Callable[[Site, Headers, str, Labels], int]


def _post(site: Site, caller: Headers, path: str, **asked: Any) -> int:
    given = asked.pop("headers", {})
    return site.client.post(path, headers={**given, **caller}, **asked).status_code


def _text(name: str, labels: Labels) -> str:
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{pairs}}} 1"


def _line(name: str, labels: Labels) -> str:
    tags = "".join(f",{key}={value}" for key, value in labels.items())
    return f"{name}{tags} value=1 {TIME_MS}"


def _remote_write_1(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    message = wire.write_request(({"__name__": name, **labels}, [(TIME_MS, 1.0)]))
    kind = {"Content-Type": "application/x-protobuf"}
    return _post(site, headers, "/api/v1/write", content=wire.snappy(message), headers=kind)


def _remote_write_2(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    message = Message().add({"__name__": name, **labels}, sample(1.0, TIME_MS))
    given = {**WRITE_2, **headers}
    answer = site.client.post("/api/v1/write", content=message.encode(), headers=given)
    return answer.status_code


def _json(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    item = {"name": name, "labels": dict(labels), "value": 1, "timestamp": TIME_MS}
    return _post(site, headers, "/metrics", json={"metrics": [item]})


def _otlp_json(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    message = gauge(point(1.0, TIME_MS, **labels), name=name)
    return _post(site, headers, "/v1/metrics", json=message)


def _otlp_protobuf(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    body = as_protobuf(gauge(point(1.0, TIME_MS, **labels), name=name))
    assert ExportMetricsServiceRequest.FromString(body).resource_metrics
    kind = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    path = "/api/v1/otlp/v1/metrics"
    return _post(site, headers, path, content=gzip.compress(body), headers=kind)


def _influx(path: str) -> Way:
    def send(site: Site, headers: Headers, name: str, labels: Labels) -> int:
        params = {"precision": "ms", "db": "x"}
        return _post(site, headers, path, content=_line(name, labels), params=params)

    return send


def _open_tsdb(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    put = {"metric": name, "timestamp": TIME_MS, "value": 1, "tags": dict(labels)}
    return _post(site, headers, "/api/put", json=put)


def _exposition(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    text = f"# HELP {name} of_{name}\n# TYPE {name} gauge\n{_text(name, labels)} {TIME_MS}\n"
    return _post(site, headers, "/api/v1/import/prometheus", content=text)


def _open_metrics(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    text = f"# TYPE {name} gauge\n{_text(name, labels)} {TIME_MS / 1000}\n# EOF\n"
    kind = {"Content-Type": "application/openmetrics-text; version=1.0.0"}
    return _post(site, headers, "/api/v1/import/prometheus", content=text, headers=kind)


def _pushed(method: str) -> Way:
    def send(site: Site, headers: Headers, name: str, labels: Labels) -> int:
        path = f"/metrics/job/{name}"
        content = _text(name, labels) + "\n"
        return site.client.request(method, path, content=content, headers=headers).status_code

    return send


def _key_of(headers: Headers) -> tuple[str, str]:
    return headers["Authorization"].removeprefix("Bearer "), headers.get("X-Scope-OrgID", "")


def address_of(site: Site, listener: str) -> tuple[str, int]:
    host, _, port = site.services.listeners.addresses[listener].rpartition(":")
    return host, int(port)


def _native(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    key, tenant = _key_of(headers)
    with native.connect(address_of(site, "native"), key=key, tenant=tenant) as client:
        client.write(client.series([{"__name__": name, **labels}]), [TIME_MS], [1.0])
        client.flush()
    return 0


def _native_datagram(site: Site, headers: Headers, name: str, labels: Labels) -> int:
    key, tenant = _key_of(headers)
    with native.DatagramSender(address_of(site, "native"), key=key, tenant=tenant) as sender:
        sender.send([{"__name__": name, **labels}], [0], [TIME_MS], [1.0])
    return 0


def _graphite(kind: socket.SocketKind) -> Way:
    def send(site: Site, _headers: Headers, name: str, labels: Labels) -> int:
        tags = "".join(f";{key}={value}" for key, value in labels.items())
        _to(site, "graphite", kind, f"{name}{tags} 1 {TIME_MS // 1000}\n")
        return 0

    return send


def _statsd(kind: socket.SocketKind) -> Way:
    def send(site: Site, _headers: Headers, name: str, labels: Labels) -> int:
        tags = ",".join(f"{key}:{value}" for key, value in labels.items())
        _to(site, "statsd", kind, f"{name}:1|g|#{tags}\n")
        return 0

    return send


def _to(site: Site, listener: str, kind: socket.SocketKind, text: str) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.connect(address_of(site, listener))
        sock.sendall(text.encode())


#: Through routes, with the caller's key.
ROUTES: Final[dict[str, Way]] = {
    "remote write 1": _remote_write_1,
    "remote write 2": _remote_write_2,
    "JSON": _json,
    "OTLP JSON": _otlp_json,
    "OTLP protobuf": _otlp_protobuf,
    "Influx 1": _influx("/write"),
    "Influx 2": _influx("/api/v2/write"),
    "Influx import": _influx("/api/v1/import/influx"),
    "OpenTSDB": _open_tsdb,
    "text exposition": _exposition,
    "OpenMetrics": _open_metrics,
    "Pushgateway PUT": _pushed("PUT"),
    "Pushgateway POST": _pushed("POST"),
}
#: Through a listener that asks for a key.
KEYED: Final[dict[str, Way]] = {"native TCP": _native, "native UDP": _native_datagram}
#: Through listeners that know no keys.
KEYLESS: Final[dict[str, Way]] = {
    "Graphite TCP": _graphite(socket.SOCK_STREAM),
    "Graphite UDP": _graphite(socket.SOCK_DGRAM),
    "StatsD TCP": _statsd(socket.SOCK_STREAM),
    "StatsD UDP": _statsd(socket.SOCK_DGRAM),
}


@contextmanager
def listening(folder: Path, backend: Backend, tenant: str = "default") -> Iterator[Site]:
    """A server with every listener; those without keys write for ``tenant``."""
    settings = settings_in(folder, admin_key=ROOT_KEY).model_copy(
        update={
            "graphite": GraphiteSettings(port=0, tenant=tenant),
            "statsd": StatsdSettings(port=0, tenant=tenant, flush_interval="100ms"),
            "native": NativeSettings(port=0),
        }
    )
    app = create_app(settings, backend)
    with TestClient(app) as client:
        yield Site(app, client, folder)


def all_series(site: Site, headers: Headers) -> set[str]:
    """Every series that this caller sees, in one text each; without what the server adds."""
    params = {"match[]": '{__name__=~".+"}', "start": "0", "end": str(int(time.time()) + 3600)}
    answer = site.client.get("/api/v1/series", params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        ",".join(f"{key}={value}" for key, value in sorted(one.items()))
        for one in answer.json()["data"]
        if not one["__name__"].startswith(("push_time", "push_failure", "target_info"))
    }
