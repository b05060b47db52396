"""API keys: made, shown once, checked, rotated, revoked.

A key is ``ms_<id>_<secret>``. The secret has 256 random bits, so a plain SHA-256 of it is as good
as a slow hash: there is nothing to guess. The id finds the record; the digests are compared in
constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from millstream.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from millstream_gateway.backends.meta_store import ABSENT, Kind, MetaStore, Snapshot, retried
from millstream_gateway.schemas.access import (
    EVERY_TENANT,
    Action,
    Caller,
    Resource,
)
from millstream_gateway.schemas.keys import KeyRecord, KeyRequest
from millstream_gateway.services.audit import AuditLog
from millstream_gateway.services.authorization import covers, require
from millstream_gateway.services.grants import LISTED_MAX, granted_verbs, may_give
from millstream_gateway.services.tenants import TenantService

PREFIX: Final = "ms_"
_ID_LETTERS: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 12
_SECRET_LETTERS: Final = string.ascii_letters + string.digits
_SECRET_BITS: Final = 256
_SECRET_LENGTH: Final = 43  # 62^43 > 2^256
_KEYS_MAX: Final = 10_000
_NAME_MAX: Final = 200
# How far a last use may lie behind before it is worth writing down again.
_USAGE_STEP_MS: Final = 1000
# Compared with when there is no such key, so that a wrong id takes as long as a wrong secret.
_NO_DIGEST: Final = hashlib.sha256(b"").hexdigest()


class KeyService:
    """Threads  Any. Everything but `verify` and the reads blocks."""

    def __init__(
        self,
        store: MetaStore,
        tenants: TenantService,
        audit: AuditLog,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._audit = audit
        self._clock = clock
        self._used: dict[str, int] = {}

    def create(self, caller: Caller, request: KeyRequest) -> tuple[KeyRecord, str]:
        """A new key and its text, which nobody can ever be told again."""
        record, key = self._new(caller, request)
        snapshot = self._store.snapshot()
        if len(snapshot.of_kind(Kind.KEY)) >= _KEYS_MAX:
            raise ResourceExhaustedError(f"there are {_KEYS_MAX} keys, more than that are not kept")
        for name in sorted(record.tenants - {EVERY_TENANT}):
            self._tenants.ensure(caller, name)
        self._store.commit(
            {(Kind.KEY, record.id): record.to_value()}, expect={(Kind.KEY, record.id): ABSENT}
        )
        self._audit.record(
            caller,
            "key.create",
            "ok",
            key=record.id,
            name=record.name,
            role=record.role.value,
            tenants=sorted(record.tenants),
            verbs=sorted(record.verbs),
            topics=list(record.topics),
            expires_ms=record.expires_ms,
        )
        return record, key

    def list(self, caller: Caller) -> list[KeyRecord]:
        """The keys of the caller's tenants, by id."""
        found = (
            KeyRecord.from_value(key_id, record.value)
            for key_id, record in self._store.snapshot().of_kind(Kind.KEY).items()
        )
        return [key for key in found if covers(caller.principal, key.tenants)]

    def get(self, caller: Caller, key_id: str) -> KeyRecord:
        return self._mine(caller, self._store.snapshot(), key_id)

    def last_used_ms(self, key_id: str) -> int | None:
        """When the key was used last, as far as this process knows; None for never."""
        record = self._store.snapshot().get(Kind.USAGE, key_id)
        stored = record.value["last_used_ms"] if record else 0
        return max(stored, self._used.get(key_id, 0)) or None

    def describe(self, key: KeyRecord) -> dict[str, Any]:
        """A key in words that may be shown: everything but digests."""
        now_ms = self._clock()
        return {
            "id": key.id,
            "name": key.name,
            "role": key.role,
            "state": key.state(now_ms),
            "verbs": sorted(key.verbs),
            "tenants": sorted(key.tenants),
            "topics": list(key.topics),
            "created_ms": key.created_ms,
            "created_by": key.created_by,
            "expires_ms": key.expires_ms,
            "last_used_ms": self.last_used_ms(key.id),
            "rotated_ms": key.rotated_ms,
            "revoked_ms": key.revoked_ms,
            "previous_until_ms": (
                key.previous_until_ms if now_ms < key.previous_until_ms else None
            ),
        }

    def revoke(self, caller: Caller, key_id: str) -> KeyRecord:
        """End a key for good. Ending it twice changes nothing."""

        def end(key: KeyRecord) -> KeyRecord:
            if key.revoked_ms is not None:
                return key
            return replace(key, revoked_ms=self._clock(), previous_digest="", previous_until_ms=0)

        return self._change(caller, key_id, "key.revoke", end)

    def rotate(self, caller: Caller, key_id: str, overlap_ms: int) -> tuple[KeyRecord, str]:
        """A new secret for a key; the one before stays good for the overlap."""
        secret = _new_secret()
        now_ms = self._clock()

        def turn(key: KeyRecord) -> KeyRecord:
            if key.state(now_ms) != "active":
                raise FailedPreconditionError(f"key {key_id} is {key.state(now_ms)}")
            return replace(
                key,
                digest=_digest(secret),
                rotated_ms=now_ms,
                previous_digest=key.digest if overlap_ms else "",
                previous_until_ms=now_ms + overlap_ms if overlap_ms else 0,
            )

        key = self._change(caller, key_id, "key.rotate", turn)
        return key, f"{PREFIX}{key_id}_{secret}"

    def verify(self, text: str) -> tuple[KeyRecord, int | None] | None:
        """The key that this is the text of, and when to ask again; None when it is none, or over.

        The time is the end of the key or of the overlap that makes an old secret good.
        """
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        record = self._store.snapshot().get(Kind.KEY, key_id)
        key = None if record is None else KeyRecord.from_value(key_id, record.value)
        digest = _digest(secret)
        is_current = hmac.compare_digest(digest, key.digest if key else _NO_DIGEST)
        is_previous = hmac.compare_digest(
            digest, (key.previous_digest if key else "") or _NO_DIGEST
        )
        now_ms = self._clock()
        if key is None or prefix != "ms" or not secret or key.state(now_ms) != "active":
            return None
        if not is_current and not is_previous:
            return None
        until_ms = key.good_until_ms(digest, now_ms)
        return None if until_ms is not None and now_ms >= until_ms else (key, until_ms)

    def claimed(self, text: str) -> str:
        """The id of the key that this claims to be, good or not; "" when there is none of that id."""
        key_id = text.partition("_")[2].partition("_")[0]
        return key_id if self._store.snapshot().get(Kind.KEY, key_id) is not None else ""

    def note_use(self, key_id: str, now_ms: int) -> None:
        """Remember a use; written down by the next `flush_usage`."""
        self._used[key_id] = now_ms

    def flush_usage(self) -> None:
        """Write down the uses since the last time, in one commit."""

        def attempt() -> None:
            snapshot = self._store.snapshot()
            used = dict(self._used)
            fresh = {}
            for key_id, used_ms in used.items():
                record = snapshot.get(Kind.USAGE, key_id)
                stored = record.value["last_used_ms"] if record else 0
                known = snapshot.get(Kind.KEY, key_id) is not None
                if known and used_ms >= stored + _USAGE_STEP_MS:
                    fresh[(Kind.USAGE, key_id)] = {"last_used_ms": used_ms}
            if fresh:
                # Aborted when another process wrote down its uses: the later of the two counts.
                expect = {key: snapshot.version(*key) for key in fresh}
                self._store.commit(fresh, expect=expect)

        retried(attempt, "too many others write down when keys were used")

    def _new(self, caller: Caller, request: KeyRequest) -> tuple[KeyRecord, str]:
        name = request.name.strip()
        if not name or len(name) > _NAME_MAX or not name.isprintable():
            raise InvalidArgumentError(f"a key needs a name of 1 to {_NAME_MAX} printable letters")
        verbs = granted_verbs(request.role, request.tenants, request.verbs)
        if len(request.topics) > LISTED_MAX:
            raise InvalidArgumentError(f"more than {LISTED_MAX} topic patterns")
        if any(not topic or len(topic) > _NAME_MAX for topic in request.topics):
            raise InvalidArgumentError(f"a topic pattern has 1 to {_NAME_MAX} letters")
        if request.expires_in_ms is not None and request.expires_in_ms <= 0:
            raise InvalidArgumentError("a key must be good for some time")
        may_give(caller.principal, request.tenants, verbs)
        key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
        secret, now_ms = _new_secret(), self._clock()
        expires = None if request.expires_in_ms is None else now_ms + request.expires_in_ms
        record = KeyRecord(
            id=key_id,
            name=name,
            role=request.role,
            verbs=verbs,
            tenants=request.tenants,
            topics=request.topics,
            digest=_digest(secret),
            created_ms=now_ms,
            created_by=f"{caller.principal.kind}:{caller.principal.id}",
            expires_ms=expires,
        )
        return record, f"{PREFIX}{key_id}_{secret}"

    def _mine(self, caller: Caller, snapshot: Snapshot, key_id: str) -> KeyRecord:
        """`NotFoundError` also for a key of somebody else's tenant: nobody can probe for ids."""
        record = snapshot.get(Kind.KEY, key_id)
        key = None if record is None else KeyRecord.from_value(key_id, record.value)
        if key is None or not covers(caller.principal, key.tenants):
            raise NotFoundError("there is no such key")
        return key

    def _change(
        self, caller: Caller, key_id: str, action: str, change: Callable[[KeyRecord], KeyRecord]
    ) -> KeyRecord:
        require(caller.principal, Action.ADMIN, Resource())
        at = (Kind.KEY, key_id)

        def attempt() -> KeyRecord:
            snapshot = self._store.snapshot()
            before = self._mine(caller, snapshot, key_id)
            after = change(before)
            if after == before:
                return before
            # Whoever may not give a key may not have one renewed either.
            if action == "key.rotate":
                may_give(caller.principal, before.tenants, before.verbs)
            self._store.commit({at: after.to_value()}, expect={at: snapshot.version(*at)})
            self._audit.record(caller, action, "ok", key=key_id, name=after.name)
            return after

        return retried(attempt, f"key {key_id} is being changed by others; try again")


def _new_secret() -> str:
    number = secrets.randbits(_SECRET_BITS)
    letters = []
    for _ in range(_SECRET_LENGTH):
        number, rest = divmod(number, len(_SECRET_LETTERS))
        letters.append(_SECRET_LETTERS[rest])
    return "".join(letters)


def digest_of_key(text: str) -> str:
    """Which secret of a key this is, as its record has it."""
    return _digest(text.partition("_")[2].partition("_")[2])


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
