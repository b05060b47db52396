"""What may be in an event that Python publishes, into a database here and on a server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

import millstream
from millstream._events import NewEvent, new_events
from millstream._remote import topic_calls
from millstream.errors import InvalidArgumentError, UnavailableError


def test_a_table_has_columns_of_events_and_a_payload_in_each_row() -> None:
    columns: dict[str, Any] = {"payload": [b"a", b"b"], "key": ["k", None]}
    assert new_events(pa.table(columns)) == [NewEvent(b"a", "k"), NewEvent(b"b", None)]
    with pytest.raises(InvalidArgumentError, match="column 'colour'"):
        new_events(pa.table({**columns, "colour": [1, 2]}))
    with pytest.raises(InvalidArgumentError, match="row 1 of the table: payload is missing"):
        new_events(pa.table({"payload": [b"a", None]}))


def test_a_header_is_utf_8_wherever_it_is_published() -> None:
    bad = NewEvent(b"x", headers={"a": b"\xff"})
    with millstream.open(":memory:") as db:
        topic = db.topic("t")
        topic.publish(b"x", headers={"a": "ä".encode()})
        with pytest.raises(InvalidArgumentError, match="header is UTF-8"):
            topic.publish_many([bad])
        with pytest.raises(InvalidArgumentError, match="header is UTF-8"):
            topic.publish(bad.payload, headers=bad.headers)
        assert len(topic.fetch()) == 1
    with pytest.raises(InvalidArgumentError, match="header is UTF-8"):
        list(topic_calls.publish("t", [bad]))


def test_what_was_read_as_a_table_can_be_published_elsewhere() -> None:
    with millstream.open(":memory:") as db:
        db.topic("from").publish({"a": [1, None]}, key="k", headers={"h": "v"})
        db.topic("from").publish(b"\xff", timestamp="2026-01-01T00:00:00Z")
        read = db.topic("from").fetch()
        for _ in range(2):  # again means the same ones
            db.topic("to").publish_many(read.to_arrow())
        copies = list(db.topic("to").fetch())

        def told(events: Iterable[millstream.Event]) -> list[tuple[Any, ...]]:
            return [
                (one.id, one.timestamp_ms, one.key, one.headers, one.payload, one.is_json)
                for one in events
            ]

        assert told(copies) == told(read)
    with pytest.raises(InvalidArgumentError, match="row 0 of the table: its payload is no JSON"):
        new_events(pa.table({"payload": [b"{"], "is_json": [True]}))


def test_headers_are_a_mapping_or_pairs_and_nothing_else() -> None:
    with millstream.open(":memory:") as db:
        topic = db.topic("t")
        topic.publish(1, headers=[("a", "1"), ("b", b"2")])
        topic.publish(1, headers={"a": "1", "b": b"2"})
        assert [dict(one.headers) for one in topic.fetch()] == [{"a": b"1", "b": b"2"}] * 2
        wrong: Any
        for wrong in (5, "ab", ["ab"], [("a",)], [("a", "1", "2")], [("a", "1"), ("a", "2")]):
            with pytest.raises(InvalidArgumentError):
                topic.publish(1, headers=wrong)


@pytest.mark.parametrize("at", [2**63 - 1, -(2**63), 253_402_300_800_000, -62_135_596_800_001])
def test_a_table_with_times_that_no_datetime_holds_is_published(at: int) -> None:
    with millstream.open(":memory:") as db:
        db.topic("t").publish(1, timestamp=at)
        db.topic("u").publish_many(db.topic("t").fetch().to_arrow())
        assert [one.timestamp_ms for one in db.topic("u").fetch()] == [at]


def test_an_offset_beside_a_time_is_refused() -> None:
    with millstream.open(":memory:") as db, millstream.connect("http://127.0.0.1:9") as remote:
        db.topic("t").publish(1)
        for topic in (db.topic("t"), remote.topic("t")):
            for verb in (topic.subscribe, topic.fetch):
                with pytest.raises(InvalidArgumentError, match="not both"):
                    verb(offset=1, time=1)


def test_a_closed_database_lists_nothing() -> None:
    db = millstream.open(":memory:")
    db.topic("t").create()
    db.close()
    for verb in (db.topics, db.metadata, db.label_names):
        with pytest.raises(UnavailableError, match="the database is closed"):
            verb()
