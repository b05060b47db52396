"""Local users: people with a password, for servers without a provider to sign in at.

Passwords are hashed with Argon2id. That is slow and takes memory on purpose, so everything that
hashes belongs on a small pool of its own and never on the event loop.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from millstream.errors import (
    AbortedError,
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
)
from millstream_gateway.backends.meta_store import ABSENT, Kind, MetaStore, Snapshot, retried
from millstream_gateway.schemas.access import EVERY_TENANT, Action, Caller, Principal, Resource
from millstream_gateway.schemas.users import LOCAL, UserRecord, UserRequest
from millstream_gateway.services.audit import AuditLog
from millstream_gateway.services.authorization import covers, require
from millstream_gateway.services.grants import granted_verbs, may_give
from millstream_gateway.services.tenants import TenantService

if TYPE_CHECKING:
    from pwdlib import PasswordHash

_NAME: Final = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]{0,99}\Z", re.ASCII)
_PASSWORD_MIN: Final = 10
_PASSWORD_MAX: Final = 200
_USERS_MAX: Final = 10_000
# `Principal.kind` of somebody who has signed in.
USER: Final = "user"


class UserService:
    """Threads  Any. Everything blocks; `create`, `change`, `change_own` and `check` also hash."""

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
        self._nobody = ""

    @cached_property
    def _hasher(self) -> PasswordHash:
        # Few servers have local users; the rest need not load this.
        from pwdlib import PasswordHash
        from pwdlib.hashers.argon2 import Argon2Hasher

        return PasswordHash((Argon2Hasher(),))

    def create(self, caller: Caller, request: UserRequest) -> UserRecord:
        """A new user."""
        if not _NAME.match(request.name):
            raise InvalidArgumentError(
                "a user's name has 1 to 100 letters, digits and _.@+-, and begins with no dot"
            )
        verbs = granted_verbs(request.role, request.tenants, request.verbs)
        may_give(caller.principal, request.tenants, verbs)
        snapshot = self._store.snapshot()
        if snapshot.get(Kind.USER, request.name) is not None:
            raise AlreadyExistsError("there is such a user already")
        if len(snapshot.of_kind(Kind.USER)) >= _USERS_MAX:
            raise ResourceExhaustedError(f"there are {_USERS_MAX} users, more are not kept")
        now_ms = self._clock()
        user = UserRecord(
            name=request.name,
            role=request.role,
            verbs=verbs,
            tenants=request.tenants,
            digest=self._hash(request.password),
            created_ms=now_ms,
            created_by=f"{caller.principal.kind}:{caller.principal.id}",
            changed_ms=now_ms,
        )
        for name in sorted(user.tenants - {EVERY_TENANT}):
            self._tenants.ensure(caller, name)
        at = (Kind.USER, user.name)
        self._store.commit({at: user.to_value()}, expect={at: ABSENT})
        self._audit.record(
            caller,
            "user.create",
            "ok",
            user=user.name,
            role=user.role.value,
            tenants=sorted(user.tenants),
        )
        return user

    @property
    def exist(self) -> bool:
        """Whether there are users at all."""
        return any(kind is Kind.USER for kind, _ in self._store.snapshot().records)

    def visible_to(self, caller: Caller) -> list[UserRecord]:
        """The users of the caller's tenants, by name."""
        require(caller.principal, Action.ADMIN, Resource())
        found = (
            UserRecord.from_value(name, record.value)
            for name, record in self._store.snapshot().of_kind(Kind.USER).items()
        )
        return [user for user in found if covers(caller.principal, user.tenants)]

    def get(self, caller: Caller, name: str) -> UserRecord:
        """`NotFoundError` also for a user of somebody else's tenant."""
        require(caller.principal, Action.ADMIN, Resource())
        return self._mine(caller, self._store.snapshot(), name)

    def change(
        self, caller: Caller, name: str, *, password: str | None, disabled: bool | None
    ) -> UserRecord:
        """Set a password, which ends the user's sessions; shut a user out, or let them in again."""
        require(caller.principal, Action.ADMIN, Resource())
        digest = None if password is None else self._hash(password)

        def attempt() -> UserRecord:
            snapshot = self._store.snapshot()
            user = self._mine(caller, snapshot, name)
            # Whoever may not make such a user may not become one by a new password either.
            may_give(caller.principal, user.tenants, user.verbs)
            after = user
            if digest is not None:
                after = replace(after, digest=digest, changed_ms=self._clock())
            if disabled is not None:
                after = replace(after, disabled=disabled)
            at = (Kind.USER, name)
            self._store.commit({at: after.to_value()}, expect={at: snapshot.version(*at)})
            self._audit.record(
                caller,
                "user.change",
                "ok",
                user=name,
                password=digest is not None,
                disabled=after.disabled,
            )
            return after

        return retried(attempt, f"user {name} is being changed by others; try again")

    def change_own(self, caller: Caller, old: str, new: str) -> bool:
        """Set the caller's own password; False when ``old`` is not theirs.

        Their other sessions end, and tokens by them; the one that asks goes on.
        """
        principal = caller.principal
        name = principal.id.removeprefix(f"{LOCAL}#")
        if principal.kind != USER or name == principal.id:
            raise PermissionDeniedError(
                f"{principal.name} signs in without a password of this server"
            )
        if self.check(name, old) is None:
            return False
        if old == new:
            raise InvalidArgumentError("the new password is the old one")
        digest = self._hash(new)
        before = self._store.snapshot().get(Kind.USER, name)
        mine = (Kind.SESSION, principal.session)

        def attempt() -> bool:
            snapshot = self._store.snapshot()
            record, session = snapshot.get(Kind.USER, name), snapshot.get(*mine)
            if record is None or before is None or session is None:
                raise UnauthenticatedError("your session is over")
            user = UserRecord.from_value(name, record.value)
            if user.digest != before.value["digest"]:
                raise AbortedError("the password was changed meanwhile")
            now_ms = self._clock()
            after = replace(user, digest=digest, changed_ms=now_ms)
            others = [
                (Kind.SESSION, session_id)
                for session_id, one in snapshot.of_kind(Kind.SESSION).items()
                if one.value["subject"] == principal.id and session_id != principal.session
            ]
            # A session counts from when the password was right: this one, again.
            kept = {**session.value, "created_ms": now_ms}
            at = (Kind.USER, name)
            self._store.commit(
                {at: after.to_value(), mine: kept},
                others,
                expect={at: record.version, mine: session.version},
            )
            self._audit.record(caller, "user.password", "ok", user=name, sessions_ended=len(others))
            return True

        return retried(attempt, "the password is being changed by others; try again")

    def delete(self, caller: Caller, name: str) -> UserRecord:
        """Remove a user, and so end their sessions."""
        user = self.get(caller, name)
        self._store.commit({}, [(Kind.USER, name)])
        self._audit.record(caller, "user.delete", "ok", user=name)
        return user

    def check(self, name: str, password: str) -> Principal | None:
        """Whose password this is; None when it is not theirs, they are shut out, or nobody is."""
        record = self._store.snapshot().get(Kind.USER, name)
        user = None if record is None else UserRecord.from_value(name, record.value)
        if not self._nobody:
            # Compared with when there is no such user, which must not take less time.
            self._nobody = self._hasher.hash("nobody's password")
        if len(password) > _PASSWORD_MAX or not _is_text(password):
            return None
        good = self._hasher.verify(password, self._nobody if user is None else user.digest)
        return user.principal if good and user is not None and not user.disabled else None

    def _hash(self, password: str) -> str:
        if not _PASSWORD_MIN <= len(password) <= _PASSWORD_MAX:
            raise InvalidArgumentError(
                f"a password has {_PASSWORD_MIN} to {_PASSWORD_MAX} characters"
            )
        if not _is_text(password):
            raise InvalidArgumentError("this password cannot be written down")
        return self._hasher.hash(password)

    def _mine(self, caller: Caller, snapshot: Snapshot, name: str) -> UserRecord:
        record = snapshot.get(Kind.USER, name)
        user = None if record is None else UserRecord.from_value(name, record.value)
        if user is None or not covers(caller.principal, user.tenants):
            raise NotFoundError("there is no such user")
        return user


def describe(user: UserRecord) -> dict[str, Any]:
    """A user in words that may be shown."""
    return {
        "name": user.name,
        "role": user.role.value,
        "verbs": sorted(verb.value for verb in user.verbs),
        "tenants": sorted(user.tenants),
        "created_ms": user.created_ms,
        "created_by": user.created_by,
        "changed_ms": user.changed_ms,
        "disabled": user.disabled,
    }


def _is_text(password: str) -> bool:
    """Whether every letter is a whole one; JSON can carry halves."""
    try:
        password.encode()
    except UnicodeEncodeError:
        return False
    return True
