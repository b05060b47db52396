"""Where keys and tenants live: few records that change seldom, are read always, and are watched.

The shape is etcd's. Every commit makes the store's revision one larger, and a record's version is
the revision of the commit that wrote it last. A commit holds everything that must happen together,
and says which versions it was decided on; when one of them is not the version any more, nothing
happens.

Threads  Any thread may call any method. Watchers are called one at a time, in order of revision, on
         a thread of the store; they must not block, commit or close.
Errors   Only classes of `millstream.errors`: `AbortedError` when an expectation does not hold,
         `DataLossError` when what is stored cannot be read, `UnavailableError` when it cannot be
         written.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from millstream.errors import AbortedError

# Absent records have this version, so expecting it means "not there yet".
ABSENT: Final = 0
# How often a commit is tried anew after somebody else's came first.
_TRIES: Final = 16
_T = TypeVar("_T")


class Kind(enum.StrEnum):
    """What a record is about. Ids are unique within a kind."""

    KEY = "key"
    TENANT = "tenant"
    # When keys were used last, apart from the keys: that changes often and matters little.
    USAGE = "usage"
    # People with a password.
    USER = "user"
    # Keys that this server signs tokens with; their private halves are locked.
    SIGNING_KEY = "signing_key"
    # Who is signed in by a token that can be renewed.
    SESSION = "session"
    # Tokens and owners of tokens that are refused although nothing is wrong with them.
    REVOCATION = "revocation"
    # What a tenant has of its own in place of everybody's limits, by the tenant's name.
    LIMITS = "limits"
    # How much of its quotas a tenant has used, by the tenant's number.
    QUOTA = "quota"
    # Lines of the access lists.
    ACL = "acl"
    # Who had a topic fed from metrics, by the tenant's number and the topic.
    FEED = "feed"
    # Numbers that only grow.
    COUNTER = "counter"


RecordKey = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object and the revision that wrote it."""

    version: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one revision; never changes."""

    revision: int = 0
    records: Mapping[RecordKey, Record] = field(default_factory=lambda: MappingProxyType({}))

    def get(self, kind: Kind, record_id: str) -> Record | None:
        return self.records.get((kind, record_id))

    def version(self, kind: Kind, record_id: str) -> int:
        record = self.get(kind, record_id)
        return ABSENT if record is None else record.version

    def of_kind(self, kind: Kind) -> dict[str, Record]:
        """Records of one kind by id, in order of ids."""
        # Kinds differ in size by orders of magnitude: what is not asked for is not sorted.
        ids = sorted(record_id for of_kind, record_id in self.records if of_kind is kind)
        return {record_id: self.records[(kind, record_id)] for record_id in ids}

    def changed(
        self, puts: Mapping[RecordKey, Mapping[str, Any]], deletes: Sequence[RecordKey]
    ) -> Snapshot:
        """The next snapshot."""
        revision = self.revision + 1
        records = {key: record for key, record in self.records.items() if key not in deletes}
        for key, value in puts.items():
            records[key] = Record(revision, MappingProxyType(dict(value)))
        return Snapshot(revision, MappingProxyType(records))


@dataclass(frozen=True, slots=True)
class Change:
    """A record that was written, or removed (then there is none)."""

    key: RecordKey
    record: Record | None


Watcher = Callable[[Snapshot, Sequence[Change]], None]


class MetaStore(Protocol):
    """Keys, tenants and what belongs to them."""

    def open(self) -> None:
        """Read what is there and begin to watch it. Calling it again changes nothing."""

    def close(self) -> None:
        """Stop watching. Calling it again changes nothing."""

    def snapshot(self) -> Snapshot:
        """What this process knows now: its own commits at once, others' within a second."""

    def commit(
        self,
        puts: Mapping[RecordKey, Mapping[str, Any]],
        deletes: Sequence[RecordKey] = (),
        *,
        expect: Mapping[RecordKey, int] | None = None,
    ) -> Snapshot:
        """Write and remove records, all or nothing, durable when it returns."""

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call back after each change, whoever made it; returns a function that ends it."""


def retried(attempt: Callable[[], _T], otherwise: str) -> _T:
    """What ``attempt`` returns, which reads a snapshot and commits what it expected there.

    It is made again while somebody else's commit comes first; `AbortedError` with the words of
    ``otherwise`` when that happens too often.
    """
    for _ in range(_TRIES):
        try:
            return attempt()
        except AbortedError:
            continue
    raise AbortedError(otherwise)


def differences(before: Snapshot, after: Snapshot) -> list[Change]:
    """What happened between two snapshots."""
    changed = [
        Change(key, record)
        for key, record in after.records.items()
        if before.records.get(key) != record
    ]
    return changed + [Change(key, None) for key in before.records if key not in after.records]


def check_expected(snapshot: Snapshot, expect: Mapping[RecordKey, int]) -> None:
    """Raise `AbortedError` when a record has another version than the caller thought."""
    for (kind, record_id), version in expect.items():
        found = snapshot.version(kind, record_id)
        if found != version:
            raise AbortedError(
                f"{kind} {record_id} was changed by somebody else (version {found}, not {version})"
            )
