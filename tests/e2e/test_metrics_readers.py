"""Programs that read metrics and were written for other servers: prometheus-api-client, Grafana, gRPC stubs."""

from __future__ import annotations

import base64
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_api_client import (
    MetricRangeDataFrame,
    MetricSnapshotDataFrame,
    PrometheusConnect,
)
from prometheus_api_client.exceptions import PrometheusApiClientException

from millstream_gateway.settings import StorageSettings
from tests.e2e.test_sign_in import millstream
from tests.gateway.conftest import node
from tests.services.http import Client, Response
from tests.services.millstream import Millstream

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
NOW_MS = 1_732_000_000_000
START = datetime.fromtimestamp(NOW_MS / 1000 - 600, UTC)
END = datetime.fromtimestamp(NOW_MS / 1000, UTC)


@dataclass(frozen=True)
class Shop:
    """A server with a tenant's samples, and a key that may only read them."""

    url: str
    key: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("readers")
    data = folder / "data"
    keys = {
        role: millstream(
            *("key", "create", "--name", role, "--role", role),
            *("--tenant", "shop", "--data", str(data)),
        ).strip()
        for role in ("user", "readonly")
    }
    with Millstream(data, folder / "logs", env={"MILLSTREAM_STORAGE__RETENTION": "100y"}) as server:
        lines = ["# TYPE orders_total counter", "# HELP orders_total Orders."]
        for host in ("a", "b"):
            for at in range(41):
                when = NOW_MS - 15_000 * (40 - at)
                lines.append(f'orders_total{{host="{host}",job="shop"}} {at * 3} {when}')
        with Client(server.url) as client:
            answer = client.request(
                "POST",
                "/api/v1/import/prometheus",
                body="".join(f"{line}\n" for line in lines).encode(),
                headers={"Authorization": f"Bearer {keys['user']}"},
            )
            assert answer.status == 200, answer.text
        yield Shop(server.url, keys["readonly"])


@pytest.fixture
def connection(shop: Shop) -> PrometheusConnect:
    return PrometheusConnect(
        url=shop.url, headers={"Authorization": f"Bearer {shop.key}"}, disable_ssl=True
    )


# The client calls pandas in a way that pandas will not know much longer.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_prometheus_api_client_reads_everything_it_knows_to_ask_for(
    connection: PrometheusConnect,
) -> None:
    assert connection.check_prometheus_connection()
    assert connection.all_metrics() == ["orders_total"]
    assert connection.get_label_names() == ["__name__", "host", "job"]
    assert connection.get_label_values("host") == ["a", "b"]
    at = {"time": NOW_MS / 1000}
    found = connection.custom_query("sum(orders_total)", params=at)
    assert found == [{"metric": {}, "value": [NOW_MS / 1000, "240"]}]
    current = connection.get_current_metric_value("orders_total", {"host": "a"}, params=at)
    assert [one["value"][1] for one in current] == ["120"]
    snapshot = MetricSnapshotDataFrame(
        connection.get_current_metric_value("orders_total", params=at)
    )
    assert sorted(snapshot["host"]) == ["a", "b"]
    ranged = connection.custom_query_range(
        "rate(orders_total[1m])", start_time=START, end_time=END, step="60"
    )
    rates = [float(value) for one in ranged for _, value in one["values"][2:]]
    assert rates == pytest.approx([0.2] * 16)
    raw = connection.get_metric_range_data('orders_total{host="b"}', start_time=START, end_time=END)
    frame = MetricRangeDataFrame(raw)
    assert frame["value"].tolist() == [3.0 * at for at in range(1, 41)]
    told = connection.get_metric_aggregation(
        'orders_total{host="a"}', ["max", "min"], start_time=START, end_time=END, step="15"
    )
    assert told == {"max": 120.0, "min": 0.0}
    series = connection.get_series(START, END, params={"match[]": 'orders_total{host="a"}'})
    assert series == [{"__name__": "orders_total", "host": "a", "job": "shop"}]
    assert [one["help"] for one in connection.get_metric_metadata("orders_total")] == ["Orders."]


def test_prometheus_api_client_is_told_what_was_wrong(
    connection: PrometheusConnect, shop: Shop
) -> None:
    with pytest.raises(PrometheusApiClientException, match="parse error"):
        connection.custom_query("sum(")
    stranger = PrometheusConnect(url=shop.url, disable_ssl=True)
    with pytest.raises(PrometheusApiClientException, match="401"):
        stranger.custom_query("up")


# What Grafana's Prometheus data source puts on every request; it knows keys only as passwords.
def _grafana_headers(key: str) -> dict[str, str]:
    basic = base64.b64encode(f"grafana:{key}".encode()).decode()
    return {
        "Authorization": f"Basic {basic}",
        "User-Agent": "Grafana/12.1.0",
        "Accept-Encoding": "gzip",
        "X-Grafana-Org-Id": "1",
        "X-Datasource-Uid": "P1809F7CD0C75ACF3",
        "X-Dashboard-Uid": "shop",
        "X-Panel-Id": "2",
        "X-Panel-Plugin-Id": "timeseries",
        "X-Query-Group-Id": "8b2b1ba4",
        "X-Rule-Source": "grafana",
        "FromAlert": "false",
        "http_X-Grafana-From-Expr": "true",
    }


@dataclass(frozen=True)
class Grafana:
    """Sends as the data source does."""

    client: Client
    key: str

    def form(self, path: str, fields: Mapping[str, str | list[str]]) -> Any:
        return self._data(
            self.client.request(
                "POST",
                path,
                body=urllib.parse.urlencode(fields, doseq=True).encode(),
                headers={
                    **_grafana_headers(self.key),
                    "Content-Type": "application/x-www-form-urlencoded",
                },
            )
        )

    def get(self, path: str) -> Any:
        return self._data(self.client.request("GET", path, headers=_grafana_headers(self.key)))

    @staticmethod
    def _data(answer: Response) -> Any:
        assert answer.status == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        envelope = answer.json()
        assert envelope["status"] == "success"
        return envelope["data"]


@pytest.fixture
def grafana(shop: Shop) -> Iterator[Grafana]:
    with Client(shop.url) as client:
        yield Grafana(client, shop.key)


def test_grafana_saves_and_tests_the_data_source(grafana: Grafana) -> None:
    data = grafana.form("/api/v1/query", {"query": "1+1", "time": "4"})
    assert data == {"resultType": "scalar", "result": [4, "2"]}
    build = grafana.get("/api/v1/status/buildinfo")
    # Features would make it take this server for Mimir, with a ruler.
    assert build["version"].startswith("3.")
    assert not build.get("features")


def test_grafana_draws_panels(grafana: Grafana) -> None:
    last, first = NOW_MS // 1000, NOW_MS // 1000 - 600
    ranged = grafana.form(
        "/api/v1/query_range",
        {
            "query": 'sum by (host) (rate(orders_total{job="shop"}[1m0s]))',
            "start": f"{first}.000",
            "end": str(last),
            "step": "15.000",
            "timeout": "60s",
        },
    )
    assert ranged["resultType"] == "matrix"
    assert [one["metric"] for one in ranged["result"]] == [{"host": "a"}, {"host": "b"}]
    table = grafana.form("/api/v1/query", {"query": "orders_total", "time": f"{last}.5"})
    assert [one["value"] for one in table["result"]] == [[last + 0.5, "120"]] * 2
    # A data source may be told to use GET instead.
    asked = urllib.parse.urlencode({"query": "count(orders_total)", "time": last})
    assert grafana.get(f"/api/v1/query?{asked}")["result"][0]["value"] == [last, "2"]


def test_grafana_completes_what_is_typed(grafana: Grafana) -> None:
    around = {"start": str(NOW_MS // 1000 - 600), "end": str(NOW_MS // 1000)}
    every = '{__name__=~".+",}'
    names = grafana.form("/api/v1/labels", {**around, "match[]": [every], "limit": "40000"})
    assert names == ["__name__", "host", "job"]
    asked = urllib.parse.urlencode({**around, "match[]": every, "limit": "40000"})
    assert grafana.get(f"/api/v1/label/__name__/values?{asked}") == ["orders_total"]
    only = urllib.parse.urlencode({**around, "match[]": '{job="shop",host=~"b|c"}'})
    assert grafana.get(f"/api/v1/label/host/values?{only}") == ["b"]
    old = grafana.form("/api/v1/series", {**around, "match[]": ["orders_total", "up"]})
    assert [one["host"] for one in old] == ["a", "b"]
    told = grafana.get("/api/v1/metadata?limit=40000")
    assert told == {"orders_total": [{"type": "counter", "help": "Orders.", "unit": ""}]}


def test_grafana_finds_no_ruler_where_it_looks_for_one(shop: Shop) -> None:
    with Client(shop.url) as client:
        answer = client.request("GET", "/rules/test/test", headers=_grafana_headers(shop.key))
    assert answer.status == 404
    assert "page not found" in answer.text


# What somebody without this repository writes, with nothing but the .proto files.
GRPC_PROGRAM = """
import sys
import grpc, ingest_pb2, ingest_pb2_grpc, query_pb2, query_pb2_grpc
now = 1_732_000_000_000
with grpc.insecure_channel(sys.argv[1]) as channel:
    ingest = ingest_pb2_grpc.IngestServiceStub(channel)
    text = f'm{{host="a"}} 1.5 {now}\\nm{{host="b"}} 2.5 {now}\\nm{{host="b"}} x\\n'
    pushed = ingest.Push(ingest_pb2.PushRequest(format="text", body=text.encode()), timeout=60)
    print(pushed.samples, pushed.rejected, [one.item for one in pushed.refusals])
    query = query_pb2_grpc.StorageQueryServiceStub(channel)
    found = query.Query(query_pb2.QueryRequest(expression="m", time_ms=now), timeout=60)
    print([list(one.values) for one in found.vector.series])
    times = query_pb2.RangeMs(start_ms=now, end_ms=now + 2000, step_ms=1000)
    ranged = query.Query(query_pb2.QueryRequest(expression="sum(m)", range=times), timeout=60)
    print(list(ranged.matrix.series[0].values))
    every = query_pb2.LabelRequest(start_ms=0, end_ms=now)
    print(list(query.LabelNames(every, timeout=60).names))
    try:
        query.Query(query_pb2.QueryRequest(expression="sum(", time_ms=now), timeout=60)
    except grpc.RpcError as error:
        print(error.code().name)
"""


def test_stubs_made_from_the_protos_push_and_query(tmp_path: Path) -> None:
    protos = ROOT / "proto" / "millstream" / "v1"
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}"),
            *(f"--python_out={stubs}", f"--grpc_python_out={stubs}"),
            *(str(protos / f"{name}.proto") for name in ("ingest", "query")),
        ],
        check=True,
    )
    with node(StorageSettings(path=str(tmp_path / "data"))) as address:
        done = subprocess.run(
            [sys.executable, "-c", GRPC_PROGRAM, address],
            env={"PATH": "", "PYTHONPATH": str(stubs)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "2 1 [3]",
        "[[1.5], [2.5]]",
        "[4.0, 4.0, 4.0]",
        "['__name__', 'host']",
        "INVALID_ARGUMENT",
    ]
