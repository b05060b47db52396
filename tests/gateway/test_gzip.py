"""Unpacking gzip under an absolute and a ratio cap."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import InvalidArgumentError
from millstream_gateway.app import create_app
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.errors import BodyTooLargeError
from millstream_gateway.services.ingest import gunzip
from millstream_gateway.settings import LimitsSettings, Settings

MIB = 1 << 20


@given(st.lists(st.binary(max_size=4096), max_size=4))
def test_members_are_joined(parts: list[bytes]) -> None:
    body = b"".join(map(gzip.compress, parts))
    assert gunzip(body, MIB, 200) == b"".join(parts)


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_a_cut_anywhere_is_refused(content: bytes, data: st.DataObject) -> None:
    body = gzip.compress(content)
    cut = data.draw(st.integers(min_value=1, max_value=len(body) - 1))
    with pytest.raises(InvalidArgumentError):
        gunzip(body[:cut], MIB, 200)


@given(st.binary(max_size=200))
def test_what_is_not_gzip_is_refused(body: bytes) -> None:
    if body and not body.startswith(b"\x1f\x8b"):
        with pytest.raises(InvalidArgumentError):
            gunzip(body, MIB, 200)


def test_the_absolute_cap_holds() -> None:
    body = gzip.compress(bytes(range(256)) * 16)
    assert len(gunzip(body, 4096, 1000)) == 4096
    with pytest.raises(BodyTooLargeError):
        gunzip(body, 4095, 1000)


def test_a_bomb_is_stopped_before_it_has_grown() -> None:
    bomb = gzip.compress(b"\0" * (32 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            gunzip(bomb, 1024 * MIB, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_a_bomb_over_http_is_413() -> None:
    settings = Settings(limits=LimitsSettings(import_bytes=MIB))
    bomb = gzip.compress(b"#" * (8 * MIB))
    with TestClient(create_app(settings, FakeBackend())) as client:
        answer = client.post(
            "/api/v1/import/prometheus", content=bomb, headers={"Content-Encoding": "gzip"}
        )
    assert answer.status_code == 413
    assert "unpacks to more than 1048576 bytes" in answer.json()["error"]
