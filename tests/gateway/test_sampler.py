"""The sampler of this machine: real numbers, rendered as text that a store takes whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millstream_gateway.backends.cancel import CancelSignal
from millstream_gateway.backends.fake import FakeBackend
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.schemas.access import DEFAULT_TENANT_ID
from millstream_gateway.schemas.queries import InstantQuery, Selection
from millstream_gateway.services.host_metrics import HostSample, sample_host
from millstream_gateway.services.own_metrics import OwnMetrics
from millstream_gateway.services.sampler import Sampler
from millstream_gateway.settings import SampleSettings
from tests.gateway.conftest import T0, wait_until


@pytest.fixture
def opened(backend: Backend) -> Iterator[Backend]:
    backend.open()
    yield backend
    backend.close()


def names(backend: Backend) -> set[str]:
    return set(backend.label_values(DEFAULT_TENANT_ID, "__name__", Selection((), 0, 2**60)))


def test_one_round_stores_the_machine_and_the_server(opened: Backend) -> None:
    sampler = Sampler(opened, OwnMetrics("1"), SampleSettings())
    stored = sampler.sample_once(T0)
    assert stored > 50
    assert {
        "host_cpu_seconds_total",
        "host_memory_bytes",
        "host_network_receive_bytes_total",
        "host_filesystem_free_bytes",
        "process_resident_memory_bytes",
        "millstream_build_info",
    } <= names(opened)


def test_samples_of_this_machine_make_sense() -> None:
    samples = list(sample_host())
    memory = {s.labels["state"]: s.value for s in samples if s.name == "host_memory_bytes"}
    assert 0 < memory["available"] <= memory["total"]
    cpus = {s.labels["cpu"] for s in samples if s.name == "host_cpu_seconds_total"}
    assert "0" in cpus
    assert {"counter", "gauge"} == {s.type for s in samples}
    assert all(s.name.endswith("_total") == (s.type == "counter") for s in samples)


def test_hostile_names_of_devices_are_escaped(opened: Backend) -> None:
    evil = 'a"b\\c\nd'
    sampler = Sampler(
        opened,
        OwnMetrics("1"),
        SampleSettings(),
        sample=lambda: iter([HostSample("host_x", "gauge", "Help\nme.", 1.0, {"device": evil})]),
    )
    sampler.sample_once(T0)
    if isinstance(opened, FakeBackend):
        text = "".join(sampler._lines(T0))
        assert 'device="a\\"b\\\\c\\nd"' in text
        assert "# HELP host_x Help\\nme.\n" in text
    else:
        found = opened.label_values(DEFAULT_TENANT_ID, "device", Selection(("host_x",), 0, 2**60))
        assert found == [evil]


def test_the_thread_samples_at_once_and_stops() -> None:
    backend = FakeBackend()
    backend.open()
    sampler = Sampler(backend, OwnMetrics("1"), SampleSettings(host=True, interval="1h"))
    sampler.start()
    try:
        wait_until(lambda: "host_load1" in names(backend))
    finally:
        sampler.stop()
    answer = backend.query(DEFAULT_TENANT_ID, InstantQuery("host_load1", 2**60), CancelSignal())
    assert b'"result":[]' in answer.data_json


def test_a_failing_push_does_not_end_the_sampling() -> None:
    rounds: list[int] = []

    def broken() -> Iterator[HostSample]:
        rounds.append(1)
        if len(rounds) == 1:
            raise OSError("no /proc")
        yield HostSample("host_y", "gauge", "Y.", 1.0)

    backend = FakeBackend()
    backend.open()
    settings = SampleSettings(host=True, interval="100ms")
    sampler = Sampler(backend, OwnMetrics("1"), settings, sample=broken)
    sampler.start()
    try:
        wait_until(lambda: "host_y" in names(backend))
    finally:
        sampler.stop()
