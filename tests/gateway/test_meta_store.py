"""The meta store: all or nothing, versions, other processes, damage, and what the file gives away."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.errors import AbortedError, DataLossError, UnavailableError
from millstream_gateway.backends import local_meta_store
from millstream_gateway.backends.local_meta_store import (
    FILE_NAME,
    LocalMetaStore,
    MemoryMetaStore,
    decode,
    encode,
)
from millstream_gateway.backends.meta_store import (
    Change,
    Kind,
    MetaStore,
    Record,
    Snapshot,
    differences,
)
from tests.gateway.conftest import wait_until

A = (Kind.TENANT, "a")
B = (Kind.TENANT, "b")


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], LocalMetaStore]]:
    opened: list[LocalMetaStore] = []

    def make() -> LocalMetaStore:
        store = LocalMetaStore(tmp_path / "meta", poll_seconds=0.01)
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, open_store: Callable[[], LocalMetaStore]) -> MetaStore:
    return open_store() if request.param == "local" else MemoryMetaStore()


def test_every_commit_is_one_revision_and_the_version_of_what_it_wrote(store: MetaStore) -> None:
    assert store.commit({A: {"n": 1}, B: {"n": 2}}).revision == 1
    after = store.commit({A: {"n": 3}})
    assert after.revision == 2
    assert after == store.snapshot()
    assert (after.version(*A), after.version(*B)) == (2, 1)
    assert after.records[A].value["n"] == 3


def test_a_commit_on_an_old_version_changes_nothing(store: MetaStore) -> None:
    store.commit({A: {"n": 1}}, expect={A: 0})
    with pytest.raises(AbortedError, match="changed by somebody else"):
        store.commit({A: {"n": 9}, B: {"n": 9}}, expect={A: 0})
    with pytest.raises(AbortedError):
        store.commit({B: {}}, deletes=[A], expect={A: 1, B: 7})
    assert store.snapshot().revision == 1
    assert dict(store.snapshot().records) == {A: Record(1, {"n": 1})}


def test_what_is_deleted_is_absent_and_can_be_made_again(store: MetaStore) -> None:
    store.commit({A: {"n": 1}})
    assert store.commit({}, deletes=[A]).get(*A) is None
    assert store.commit({A: {"n": 2}}, expect={A: 0}).version(*A) == 3


def test_a_snapshot_never_changes(store: MetaStore) -> None:
    before = store.commit({A: {"n": 1}})
    store.commit({A: {"n": 2}})
    assert before.records[A].value["n"] == 1
    with pytest.raises(TypeError):
        before.records[B] = Record(1, {})  # type: ignore[index]


def test_watchers_hear_of_every_change_until_they_stop(store: MetaStore) -> None:
    heard: list[tuple[int, list[Change]]] = []
    stop = store.watch(lambda snapshot, changes: heard.append((snapshot.revision, list(changes))))
    store.commit({A: {"n": 1}})
    store.commit({B: {"n": 2}}, deletes=[A])
    stop()
    store.commit({A: {"n": 3}})
    assert heard == [
        (1, [Change(A, Record(1, {"n": 1}))]),
        (2, [Change(B, Record(2, {"n": 2})), Change(A, None)]),
    ]


def test_another_store_on_the_folder_hears_of_it(open_store: Callable[[], LocalMetaStore]) -> None:
    one, two = open_store(), open_store()
    heard: list[int] = []
    two.watch(lambda snapshot, _changes: heard.append(snapshot.revision))
    one.commit({A: {"n": 1}})
    wait_until(lambda: bool(heard))
    assert two.snapshot() == one.snapshot()


def test_another_process_is_heard(open_store: Callable[[], LocalMetaStore], tmp_path: Path) -> None:
    store = open_store()
    program = (
        "import sys; from pathlib import Path\n"
        "from millstream_gateway.backends.local_meta_store import LocalMetaStore\n"
        "from millstream_gateway.backends.meta_store import Kind\n"
        "LocalMetaStore(Path(sys.argv[1])).commit({(Kind.TENANT, 'a'): {'n': 7}})\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "meta")],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_until(lambda: store.snapshot().get(*A) is not None)
    assert store.snapshot().records[A].value["n"] == 7


def test_writers_at_the_same_time_lose_no_update(open_store: Callable[[], LocalMetaStore]) -> None:
    stores = [open_store() for _ in range(3)]

    def add_ten(store: LocalMetaStore) -> None:
        done = 0
        while done < 10:
            snapshot = store.snapshot()
            record = snapshot.get(*A)
            number = record.value["n"] if record else 0
            try:
                store.commit({A: {"n": number + 1}}, expect={A: snapshot.version(*A)})
                done += 1
            except AbortedError:
                continue

    threads = [threading.Thread(target=add_ten, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_until(lambda: all(store.snapshot().revision == 30 for store in stores))
    assert stores[0].snapshot().records[A].value["n"] == 30


def test_only_the_owner_can_read_the_files(
    open_store: Callable[[], LocalMetaStore], tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        open_store().commit({A: {"n": 1}})
    finally:
        os.umask(before)
    folder = tmp_path / "meta"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_crash_at_any_step_leaves_one_revision_or_the_next(
    open_store: Callable[[], LocalMetaStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.commit({A: {"n": 1}})

    def fail(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    real_open = os.open

    def open_all_but_the_new(path: Path, *rest: int) -> int:
        if str(path).endswith(".new"):
            fail()
        return real_open(path, *rest)

    steps = [
        (local_meta_store.os, "open", open_all_but_the_new),
        (local_meta_store.os, "fsync", fail),
        (Path, "replace", fail),
    ]
    fresh = LocalMetaStore(tmp_path / "meta")
    for number, (where, step, broken) in enumerate(steps, start=1):
        with monkeypatch.context() as patch:
            patch.setattr(where, step, broken)
            with pytest.raises(UnavailableError, match="cannot be written"):
                store.commit({A: {"n": 99}})
        assert store.snapshot().records[A].value["n"] == number
        fresh.commit({A: {"n": number + 1}})
        store.commit({B: {}}, expect={A: fresh.snapshot().version(*A)})
        assert store.snapshot().records[A].value["n"] == number + 1


@pytest.mark.parametrize("at", [0, 20, -3])
def test_a_flipped_bit_is_data_loss_and_not_another_answer(tmp_path: Path, at: int) -> None:
    LocalMetaStore(tmp_path).commit({A: {"n": 1}})
    file = tmp_path / FILE_NAME
    text = bytearray(file.read_bytes())
    text[at] ^= 4
    file.write_bytes(text)
    with pytest.raises(DataLossError, match=FILE_NAME):
        LocalMetaStore(tmp_path).open()


@pytest.mark.parametrize("text", [b"", b"{}", b"[]\n[]", b'{"format":2}\n{}', b"\xff\n"])
def test_what_is_no_store_is_data_loss(text: bytes) -> None:
    with pytest.raises(DataLossError):
        decode(text, "meta.json")


def test_a_store_that_vanishes_keeps_what_it_said(
    open_store: Callable[[], LocalMetaStore], tmp_path: Path
) -> None:
    store = open_store()
    store.commit({A: {"n": 1}})
    (tmp_path / "meta" / FILE_NAME).unlink()
    with pytest.raises(DataLossError, match="has gone"):
        store.commit({B: {"n": 1}})
    assert store.snapshot().get(*A) is not None


_VALUES = st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53) | st.text(), max_size=3)
_RECORDS = st.dictionaries(
    st.tuples(st.sampled_from(Kind), st.text(st.characters(codec="utf-8"), max_size=5)),
    st.builds(Record, st.integers(1, 2**40), _VALUES),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**50), _RECORDS, _RECORDS)
def test_snapshots_survive_the_file_and_differences_lead_from_one_to_the_next(
    revision: int, one: dict[tuple[Kind, str], Record], two: dict[tuple[Kind, str], Record]
) -> None:
    before, after = Snapshot(revision, one), Snapshot(revision + 1, two)
    assert decode(encode(before), "x") == before
    moved = dict(one)
    for change in differences(before, after):
        if change.record is None:
            del moved[change.key]
        else:
            moved[change.key] = change.record
    assert moved == two
