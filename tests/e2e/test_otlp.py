"""The real OpenTelemetry SDK sends metrics over HTTP; PromQL says what the application counted, in either temporality."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpExporter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality

from tests.e2e.otlp_sdk import CUMULATIVE, DELTA, Application, assert_measured
from tests.services.http import Client
from tests.services.millstream import Millstream

pytestmark = pytest.mark.e2e

TEMPORALITIES = pytest.mark.parametrize(
    "temporality",
    [pytest.param(CUMULATIVE, id="cumulative"), pytest.param(DELTA, id="delta")],
)
Temporality = dict[type, AggregationTemporality]


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
