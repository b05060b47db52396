"""The known holes of docs/security.md: those that no other test holds shut, and the list itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from millstream_gateway.backends.embedded import EmbeddedBackend
from tests.gateway.access_support import ROOT, TIME_MS, Site, bearer, settings_in, site_in
from tests.gateway.conftest import ROOT as REPOSITORY
from tests.gateway.conftest import needs_engine

_ROW: Final = re.compile(r"^\| (\d+)\. .+\|$")
_TEST: Final = re.compile(r"`((?:tests/)?[\w/]+\.(?:py|cc))::([\w.]+)`")


def table() -> dict[int, list[tuple[Path, str]]]:
    """Holes by number, each with its tests: a file and a name."""
    text = (REPOSITORY / "docs/security.md").read_text()
    rows = text[text.index("## Known holes") :].splitlines()
    found = {}
    for row in rows:
        if match := _ROW.match(row):
            tests = [
                (REPOSITORY / (name if "/" in name else f"tests/gateway/{name}"), test)
                for name, test in _TEST.findall(row)
            ]
            found[int(match[1])] = tests
    return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path, EmbeddedBackend(settings_in(tmp_path).storage)) as made:
        yield made


def test_every_hole_has_tests_and_every_test_exists() -> None:
    holes = table()
    assert sorted(holes) == list(range(1, 16))
    for number, tests in holes.items():
        assert tests, f"hole {number} has no test"
        for path, name in tests:
            assert path.is_file(), f"hole {number}: there is no {path}"
            suite, _, case = name.partition(".")
            words = rf"^(?:async )?def {name}\(" if not case else rf"^TEST\({suite}, {case}\)"
            assert re.search(words, path.read_text(), re.MULTILINE), f"hole {number}: no {name}"


@needs_engine
def test_hole_4_no_stranger_opens_a_websocket(site: Site) -> None:
    key = site.issue()["key"]
    attempts: list[tuple[str, dict[str, str]]] = [
        ("/v1/stream", {}),
        ("/v1/stream?ticket=guessed", {}),
        ("/v1/stream?ticket=", bearer("ms_no_body")),
        (f"/v1/stream?ticket={key}", {"Origin": "https://evil.example"}),
        (f"/v1/stream?token={key}&access_token={key}", {}),
        ("/api/v1/query", ROOT),
        ("/", {}),
    ]
    for path, headers in attempts:
        refused = pytest.raises((WebSocketDisconnect, WebSocketDenialResponse))
        with refused, site.client.websocket_connect(path, headers=headers) as socket:
            # Whoever was let in wrongly would hear something.
            socket.receive_text()


def test_hole_6_every_decoder_of_bytes_from_outside_has_a_fuzzer() -> None:
    fuzzers = "".join(path.read_text() for path in (REPOSITORY / "tests/fuzz").glob("*.cc"))
    headers = sorted((REPOSITORY / "cpp/wire/include/millstream/wire").glob("*.h"))
    declared = re.compile(r"^\w[\w:<>, ]* Decode\w+\(", re.MULTILINE)
    decoders = [one for one in headers if declared.search(one.read_text())]
    assert len(decoders) >= 8
    for header in decoders:
        # Labels are decoded on behalf of all of these, and have no form of their own.
        if header.name != "labels_decoder.h":
            assert f"millstream/wire/{header.name}" in fuzzers, f"nothing fuzzes {header.name}"


@needs_engine
def test_hole_7_no_expression_takes_more_than_its_limits(site: Site) -> None:
    lines = "".join(f'm{{i="{i}"}} {i} {TIME_MS}\n' for i in range(200))
    filled = site.client.post("/api/v1/import/prometheus", content=lines, headers=ROOT)
    assert filled.status_code == 200
    span = {"start": str(TIME_MS // 1000), "end": str(TIME_MS // 1000 + 3600), "step": "1"}
    hostile = [
        'm{i=~"(.{1,1000}){1000}"}',
        'm{i=~"' + "(a|" * 5000 + "b" + ")" * 5000 + '"}',
        'm{i=~"' + "a" * 1_000_000 + '"}',
        "(" * 50_000 + "m" + ")" * 50_000,
        "-" * 500_000 + "m",
        "sum(" * 20_000 + "m" + ")" * 20_000,
        "m" + "[1h:1s]" * 3000,
        "max_over_time(" * 8 + "m" + "[10000d:1ms])" * 8,
        "m" + " or m" * 100_000,
        "count_over_time(m[1000000y:1ms])",
        "label_replace(" * 2000 + "m" + ',"a","$1","b","(.*)")' * 2000,
    ]
    for expression in hostile:
        for path, params in (("query", {"time": span["start"]}), ("query_range", span)):
            begun = time.monotonic()
            answer = site.client.post(
                f"/api/v1/{path}",
                data={"query": expression, "timeout": "2s", **params},
                headers=ROOT,
            )
            words = (expression[:40], path, answer.status_code, answer.text[:200])
            assert answer.status_code < 500 or answer.status_code == 503, words
            # The timeout, and what a slow machine needs to notice it.
            assert time.monotonic() - begun < 30, words
            if answer.status_code != 200:
                assert answer.json()["errorType"] in (
                    *("bad_data", "execution", "timeout", "canceled", "too_large"),
                ), words
    steps = {**span, "end": str(TIME_MS // 1000 + 10**9), "query": "m"}
    answer = site.client.get("/api/v1/query_range", params=steps, headers=ROOT)
    assert answer.status_code == 400
    assert site.names(ROOT) == ["m"]


@needs_engine
def test_hole_9_no_name_from_outside_becomes_a_path(site: Site) -> None:
    outside = site.folder / "outside"
    outside.mkdir()
    before = _files(site.folder)
    for name in ("../outside/x", "..", "/etc/passwd", "a/../../outside", "\\..\\x", "a\x00b", "~"):
        path = quote(name, safe="")
        site.client.post(f"/metrics/job/{path}", content="m 1\n", headers=ROOT)
        site.client.post(f"/metrics/job/j/instance/{path}", content="m 1\n", headers=ROOT)
        site.client.post("/v1/admin/tenants", json={"name": name}, headers=ROOT)
        site.client.post("/v1/admin/users", json={"name": name, "password": "x" * 20}, headers=ROOT)
        site.client.put(f"/v1/admin/limits/{path}", json={}, headers=ROOT)
        site.client.delete(f"/v1/admin/keys/{path}", headers=ROOT)
        site.push(ROOT, "m", host=name)
        site.client.get(f"/api/v1/label/{path}/values", headers=ROOT)
        for asset in (f"/assets/{path}", f"/assets/../../{quote(name)}", f"/docs/{path}"):
            answer = site.client.get(asset, headers=ROOT)
            assert b"root:" not in answer.content
    for made in _files(site.folder) - before:
        # Below the data folder, under names that the server chose.
        assert made.is_relative_to(site.folder / "data"), made
        assert re.fullmatch(r"[\w.-]+", made.name), made
        assert not re.search(r"passwd|outside|\.\.", str(made.relative_to(site.folder))), made


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
