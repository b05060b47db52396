"""The real OpenTelemetry SDK sends metrics, over HTTP to the server and over gRPC to a node.

What PromQL then says is what the application counted, in either temporality. The same requests go into a real
Prometheus, and both have the same series, label by label and sample by sample.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpExporter,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.sdk.metrics.export import AggregationTemporality

from tests.e2e.otlp_sdk import CUMULATIVE, DELTA, Application, assert_measured
from tests.gateway.tls_support import Authority
from tests.services import promql
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.node import Node
from tests.services.prometheus import Prometheus, PrometheusConfig

pytestmark = pytest.mark.e2e

TEMPORALITIES = pytest.mark.parametrize(
    "temporality",
    [pytest.param(CUMULATIVE, id="cumulative"), pytest.param(DELTA, id="delta")],
)
Temporality = dict[type, AggregationTemporality]
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@TEMPORALITIES
def test_sdk_over_http_is_measured_alike(tmp_path: Path, temporality: Temporality) -> None:
    with Millstream(tmp_path / "data", tmp_path) as server, Client(server.url) as client:
        exporter = HttpExporter(
            f"{server.url}/v1/metrics",
            preferred_temporality=temporality,
            compression=Compression.Gzip,
        )
        with Application(exporter) as application:
            for more, rounds in ((2, 2), (1, 3), (4, 7)):
                application.work(more)
                application.export()
                assert_measured(client, rounds)


@TEMPORALITIES
def test_sdk_over_grpc_to_a_node_is_measured_alike(
    tmp_path: Path, temporality: Temporality
) -> None:
    with (
        Node(tmp_path / "data", tmp_path) as node,
        Millstream(tmp_path / "unused", tmp_path, arguments=["--nodes", node.address]) as server,
        Client(server.url) as client,
    ):
        exporter = GrpcExporter(
            node.address,
            insecure=True,
            preferred_temporality=temporality,
            compression=grpc.Compression.Gzip,
        )
        with Application(exporter) as application:
            for more, rounds in ((2, 2), (1, 3)):
                application.work(more)
                application.export()
                assert_measured(client, rounds)


def test_node_tells_what_it_refuses_over_grpc(tmp_path: Path) -> None:
    with (
        Node(tmp_path / "data", tmp_path, arguments=["--otlp-option", "delta=refuse"]) as node,
        grpc.insecure_channel(node.address) as channel,
    ):
        stub = MetricsServiceStub(channel)  # type: ignore[no-untyped-call]
        now = time.time_ns()
        points = {"dataPoints": [{"asInt": 1, "timeUnixNano": now}]}
        good: dict[str, Any] = {"name": "m", "gauge": points}
        delta: dict[str, Any] = {"name": "d", "sum": {**points, "aggregationTemporality": 1}}
        answer = stub.Export(_request([good, delta]), metadata=[("x-scope-orgid", "7")])
        assert answer.partial_success.rejected_data_points == 1
        assert "delta temporality" in answer.partial_success.error_message
        assert not stub.Export(_request([good])).HasField("partial_success")
        with pytest.raises(grpc.RpcError) as refused:
            stub.Export(_request([good]), metadata=[("x-scope-orgid", "shop")])
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_with_tls_only_certificates_with_an_allowed_name_may_send(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certs")
    certificate, key = authority.issue("node")
    arguments = [
        *("--tls-cert", str(certificate), "--tls-key", str(key)),
        *("--tls-client-ca", str(authority.ca), "--tls-allowed-names", "agent"),
    ]
    points = {"dataPoints": [{"asInt": 1, "timeUnixNano": time.time_ns()}]}
    with Node(tmp_path / "data", tmp_path, arguments=arguments) as node:
        for name, expected in (("agent", None), ("stranger", grpc.StatusCode.PERMISSION_DENIED)):
            shown, own_key = authority.issue("client", (name,))
            credentials = grpc.ssl_channel_credentials(
                authority.ca.read_bytes(), own_key.read_bytes(), shown.read_bytes()
            )
            with grpc.secure_channel(node.address, credentials) as channel:
                stub = MetricsServiceStub(channel)  # type: ignore[no-untyped-call]
                code = None
                try:
                    stub.Export(_request([{"name": "m", "gauge": points}]))
                except grpc.RpcError as error:
                    code = error.code()
                assert code is expected


def _request(metrics: list[dict[str, Any]], **resource: str) -> ExportMetricsServiceRequest:
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in resource.items()]
    scope = {
        "name": "lib",
        "version": "2",
        "attributes": [{"key": "kind.of", "value": {"stringValue": "test"}}],
    }
    message = {
        "resourceMetrics": [
            {
                "resource": {"attributes": attributes},
                "scopeMetrics": [{"scope": scope, "schemaUrl": "http://s", "metrics": metrics}],
            }
        ]
    }
    return json_format.ParseDict(message, ExportMetricsServiceRequest())


def _odd_metrics(now: int) -> list[dict[str, Any]]:
    """Names, units, attributes and points on which translations may part."""
    times = {"timeUnixNano": now, "startTimeUnixNano": now - 10**9}
    names = [
        *(("system.cpu.load", "1"), ("load_ratio", "1"), ("disk.io", "By/s"), ("speed", "m/s")),
        *(("errors", "{error}/min"), ("2xx.count", ""), ("a..b__c", ""), ("odd", "a.b c")),
        *(("größe", "%"), ("a:b", "h"), ("_lead", "Cel"), ("share", "1/m")),
    ]
    attributes = [
        *(("http.method", "GET"), ("1st", "x"), ("_under", "u"), ("a..b", "two")),
        *(("a_b", "2"), ("a.b", "1"), ("job", "own"), ("team", "own")),
    ]
    texts = [{"key": key, "value": {"stringValue": text}} for key, text in attributes]
    typed: list[dict[str, Any]] = [
        {"key": "flag", "value": {"boolValue": True}},
        {"key": "number", "value": {"intValue": "-7"}},
        {"key": "fraction", "value": {"doubleValue": 0.25}},
        {
            "key": "list",
            "value": {"arrayValue": {"values": [{"intValue": 1}, {"stringValue": "<"}]}},
        },
        {"key": "bytes", "value": {"bytesValue": "aGk="}},
    ]
    point = {**times, "asDouble": 1.5, "attributes": [*texts, *typed]}
    out: list[dict[str, Any]] = []
    for name, unit in names:
        out.append({"name": name, "unit": unit, "gauge": {"dataPoints": [point]}})
        cumulative = {"aggregationTemporality": 2, "dataPoints": [point]}
        for suffix, monotonic in ((".mono", True), (".updown", False), ("_total", True)):
            total = {**cumulative, "isMonotonic": monotonic}
            out.append({"name": name + suffix, "unit": unit, "sum": total})
    classic = {
        **times,
        "count": 6,
        "sum": 7.5,
        "bucketCounts": [1, 0, 2, 3],
        "explicitBounds": [-1, 0.005, 1e6],
    }
    exponential = {
        **times,
        "count": 21,
        "sum": -3,
        "scale": 10,
        "zeroCount": 1,
        "positive": {"offset": -5, "bucketCounts": [1, 0, 0, 3, 2, 0, 0, 0, 0, 4]},
        "negative": {"offset": 3, "bucketCounts": [10]},
    }
    quantiles = [{"quantile": 0.5, "value": 2}, {"quantile": 0.999, "value": 3}]
    summary = {**times, "count": 4, "sum": 9, "quantileValues": quantiles}
    return [
        *out,
        {
            "name": "wait.time",
            "unit": "ms",
            "histogram": {"aggregationTemporality": 2, "dataPoints": [classic]},
        },
        {
            "name": "payload.size",
            "unit": "By",
            "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [exponential]},
        },
        {"name": "age", "unit": "d", "summary": {"dataPoints": [summary]}},
    ]


@pytest.mark.parametrize(
    "otlp",
    [
        pytest.param({}, id="defaults"),
        pytest.param(
            {
                "translation_strategy": "NoUTF8EscapingWithSuffixes",
                "promote_resource_attributes": ["team", "host.name"],
                "keep_identifying_resource_attributes": True,
                "promote_scope_metadata": True,
                "convert_histograms_to_nhcb": True,
            },
            id="utf8",
        ),
        pytest.param(
            {
                "translation_strategy": "UnderscoreEscapingWithoutSuffixes",
                "promote_all_resource_attributes": True,
                "ignore_resource_attributes": ["team"],
                "label_name_underscore_sanitization": False,
                "label_name_preserve_multiple_underscores": False,
                "promote_scope_metadata": True,
            },
            id="without-suffixes",
        ),
        pytest.param({"translation_strategy": "NoTranslation"}, id="no-translation"),
    ],
)
def test_prometheus_makes_the_same_series(tmp_path: Path, otlp: Mapping[str, Any]) -> None:
    config = tmp_path / "millstream.yaml"
    config.write_text(json.dumps({"otlp": otlp}))
    with (
        Prometheus(
            tmp_path / "prometheus", PrometheusConfig(scrape_itself=False, otlp=otlp)
        ) as real,
        Millstream(tmp_path / "data", tmp_path, arguments=["--config", str(config)]) as own,
        Client(real.url) as reference,
        Client(own.url) as subject,
    ):
        now = time.time_ns()
        resource = {
            "service.name": "shop",
            "service.namespace": "eu",
            "service.instance.id": "i-1",
            "host.name": "h",
            "team": "a",
        }
        body = _request(_odd_metrics(now), **resource).SerializeToString()
        for client in (reference, subject):
            answer = client.request("POST", "/api/v1/otlp/v1/metrics", body=body, headers=PROTOBUF)
            assert answer.status == 200, answer.text
            assert not answer.body
        query = promql.Instant('{__name__=~".+"}[1m]', now // 1_000_000 + 1000)
        expected = promql.must_ask(reference, query)
        assert expected.sample_count() > 40
        compared = promql.compare(query, expected, promql.must_ask(subject, query))
        assert not compared.differences, "\n".join(map(str, compared.differences))
