"""The engine's lane for groups of writes: it says what its calls say, and forgets nothing."""

from __future__ import annotations

import select
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from millstream.errors import MillstreamError, ResourceExhaustedError, UnavailableError
from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.backends.protocol import PushLane
from millstream_gateway.schemas.access import DEFAULT_TENANT_ID, TenantId
from millstream_gateway.schemas.push import PushOutcome, WriteBody
from millstream_gateway.settings import AuthSettings, Settings, StorageSettings
from tests.gateway.access_support import ROOT_KEY
from tests.gateway.conftest import needs_engine, running
from tests.gateway.test_short_way import GOOD, NONE_GOOD, PARTLY, comparable, request, talk

pytestmark = needs_engine

WRITES = [
    (DEFAULT_TENANT_ID, WriteBody("json", GOOD)),
    (TenantId(7), WriteBody("json", GOOD)),
    (DEFAULT_TENANT_ID, WriteBody("json", PARTLY)),
    (DEFAULT_TENANT_ID, WriteBody("json", NONE_GOOD)),
    (DEFAULT_TENANT_ID, WriteBody("json", b"{")),
    (DEFAULT_TENANT_ID, WriteBody("text", b"a 1\nb\n", default_timestamp_ms=1_732_000_000_000)),
    (DEFAULT_TENANT_ID, WriteBody("no such format", b"")),
]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[EmbeddedBackend]:
    backend = EmbeddedBackend(StorageSettings(path=str(tmp_path / "data"), retention="100y"))
    backend.open()
    yield backend
    backend.close()


@pytest.fixture
def lane(backend: EmbeddedBackend) -> Iterator[PushLane]:
    lane = backend.push_lane(2)
    yield lane
    lane.close()


def told(outcomes: list[PushOutcome | MillstreamError]) -> list[PushOutcome | tuple[type, str]]:
    """Without what no two writes share: their places in the log."""
    return [
        replace(one, offset_token="") if isinstance(one, PushOutcome) else (type(one), one.message)
        for one in outcomes
    ]


def test_a_lane_says_what_the_call_says(backend: EmbeddedBackend, lane: PushLane) -> None:
    number = lane.submit(WRITES)
    assert select.select([lane.fileno()], [], [], 20)[0]
    ((found, outcomes),) = lane.collect()
    assert found == number
    assert told(outcomes) == told(backend.push_all(WRITES))
    assert {type(one) for one in outcomes} != {PushOutcome}


def test_each_group_is_told_once(lane: PushLane) -> None:
    numbers = {lane.submit(WRITES[:2]) for _ in range(50)}
    found: list[int] = []
    while len(found) < len(numbers):
        assert select.select([lane.fileno()], [], [], 20)[0]
        found += [number for number, _ in lane.collect()]
    assert sorted(found) == sorted(numbers)
    assert lane.collect() == []
    assert not select.select([lane.fileno()], [], [], 0)[0]


def test_a_lane_that_closes_finishes_what_it_took_and_takes_no_more(lane: PushLane) -> None:
    numbers = [lane.submit(WRITES[:1]) for _ in range(50)]
    lane.close()
    done = lane.collect()
    assert sorted(number for number, _ in done) == numbers
    assert all(isinstance(one, PushOutcome) and one.samples == 1 for _, (one,) in done)
    with pytest.raises(UnavailableError):
        lane.submit(WRITES)


def test_a_lane_holds_no_more_groups_than_it_says(lane: PushLane) -> None:
    for _ in range(1024):
        lane.submit([])
    with pytest.raises(ResourceExhaustedError):
        lane.submit([])


def test_an_engine_that_was_closed_refuses_what_comes_by_its_lane(
    backend: EmbeddedBackend, lane: PushLane
) -> None:
    backend.close()
    lane.submit(WRITES[:1])
    lane.close()
    ((_, (error,)),) = lane.collect()
    assert isinstance(error, MillstreamError)


class WithoutLane(EmbeddedBackend):
    def push_lane(self, _threads: int, /) -> None:  # type: ignore[override]
        return None


def test_answers_are_those_of_calls(tmp_path: Path) -> None:
    sendings = [request(body) for body in (GOOD, PARTLY, NONE_GOOD, b"{", GOOD)]
    found = []
    for kind in (EmbeddedBackend, WithoutLane):
        storage = StorageSettings(path=str(tmp_path / kind.__name__), retention="100y")
        settings = Settings(auth=AuthSettings(admin_key=ROOT_KEY), storage=storage)
        backend = kind(storage)
        backend.open()
        try:
            with running(settings, backend) as port:
                found.append([comparable(one) for one in talk(port, sendings, len(sendings))])
        finally:
            backend.close()
    assert found[0] == found[1]
    assert [head[9:12] for head, _ in found[0]] == [b"200", b"200", b"400", b"400", b"200"]
