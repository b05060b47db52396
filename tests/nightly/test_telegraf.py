"""Telegraf, unchanged, writes by each of its outputs that docs/ingest.md names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.services.millstream import Millstream
from tests.services.telegraf import Telegraf

KEY = "an-admin-key-of-the-test"
POINTS = 2_500
# Whole seconds: the remote write output rounds times to milliseconds, Influx lines are in nanoseconds.
FIRST_S = int(time.time()) - POINTS

OUTPUTS = {
    "influxdb_v2": """
[[outputs.influxdb_v2]]
  urls = ["{url}"]
  token = "{key}"
  organization = "any"
  bucket = "any"
""",
    "influxdb": """
[[outputs.influxdb]]
  urls = ["{url}"]
  username = "any"
  password = "{key}"
  database = "any"
  skip_database_creation = true
""",
    # Of a batch Telegraf sends the last sample of each series only, so each point is a batch here.
    "http": """
[[outputs.http]]
  url = "{url}/api/v1/write"
  use_batch_format = false
  data_format = "prometheusremotewrite"
  [outputs.http.headers]
    Authorization = "Bearer {key}"
    Content-Type = "application/x-protobuf"
    Content-Encoding = "snappy"
    X-Prometheus-Remote-Write-Version = "0.1.0"
""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    folder = tmp_path_factory.mktemp("telegraf")
    environment = {"MILLSTREAM_AUTH__ADMIN_KEY": KEY}
    with Millstream(folder / "data", folder / "logs", env=environment) as running:
        yield running
        assert KEY not in running.stderr() + running.stdout()


def query(server: Millstream, expression: str) -> list[tuple[dict[str, str], str]]:
    answer = httpx2.get(
        f"{server.url}/api/v1/query",
        params={"query": expression, "time": FIRST_S + POINTS},
        headers={"Authorization": f"Bearer {KEY}"},
    ).json()
    assert answer["status"] == "success", answer
    return [(item["metric"], item["value"][1]) for item in answer["data"]["result"]]


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_point_that_telegraf_sends_is_there(
    server: Millstream, tmp_path: Path, output: str
) -> None:
    lines = tmp_path / "points.influx"
    lines.write_text(
        "".join(
            f"cpu,way={output},host=web\\ 1 usage={i % 97}.5,cores=8i,up=true {(FIRST_S + i) * 10**9}\n"
            for i in range(POINTS)
        )
    )
    telegraf = Telegraf(lines, OUTPUTS[output].format(url=server.url, key=KEY), tmp_path / "logs")
    assert telegraf.wait_done() == 0, telegraf.stderr()
    way = f'way="{output}",host="web 1"'
    for name, total in (
        ("cpu_usage", sum(i % 97 + 0.5 for i in range(POINTS))),
        ("cpu_cores", 8 * POINTS),
        ("cpu_up", POINTS),
    ):
        ((labels, found),) = query(server, f"sum_over_time({name}{{{way}}}[1d])")
        assert float(found) == total
        assert labels == {"way": output, "host": "web 1"}
        ((_, count),) = query(server, f"count_over_time({name}{{{way}}}[1d])")
        assert int(count) == POINTS
    print(f"{output}: {POINTS} points of three fields each")


@pytest.mark.parametrize("output", ["influxdb_v2", "influxdb"])
def test_a_field_that_is_no_number_costs_itself_alone(
    server: Millstream, tmp_path: Path, output: str
) -> None:
    lines = tmp_path / "points.influx"
    lines.write_text(
        f'disk,way={output} free=7i,state="ok" {FIRST_S * 10**9}\n'
        f"disk,way={output} free=8i {(FIRST_S + 1) * 10**9}\n"
    )
    telegraf = Telegraf(lines, OUTPUTS[output].format(url=server.url, key=KEY), tmp_path / "logs")
    telegraf.wait_done()
    ((_, total),) = query(server, f'sum_over_time(disk_free{{way="{output}"}}[1d])')
    assert float(total) == 15
    assert "state" in telegraf.stderr()


def test_a_wrong_key_stores_nothing(server: Millstream, tmp_path: Path) -> None:
    lines = tmp_path / "points.influx"
    lines.write_text(f"stranger value=1 {FIRST_S * 10**9}\n")
    output = OUTPUTS["influxdb_v2"].format(url=server.url, key="not-the-key")
    telegraf = Telegraf(lines, output, tmp_path / "logs")
    telegraf.wait_done()
    assert "401" in telegraf.stderr()
    assert query(server, "stranger_value") == []
