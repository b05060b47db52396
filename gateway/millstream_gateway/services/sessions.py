"""Sign-ins: a short access token, a refresh token that is good once, and their end.

An access token is checked against its session at every change of the store, so a session that ends
is over within the second in which a server hears of it. A refresh token that comes a second time
was stolen, from the caller or by the caller: nobody can say which of the two has the good one, so
the session ends for both (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from millstream.errors import (
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
)
from millstream_gateway.backends.meta_store import ABSENT, Kind, MetaStore, RecordKey, retried
from millstream_gateway.schemas.access import (
    ADMIN_KEY,
    VERBS,
    Action,
    Caller,
    Principal,
    Resource,
    Role,
)
from millstream_gateway.schemas.keys import KeyRecord
from millstream_gateway.schemas.sessions import SessionRecord
from millstream_gateway.schemas.users import LOCAL, UserRecord
from millstream_gateway.services.audit import AuditLog
from millstream_gateway.services.authorization import covers, require
from millstream_gateway.services.claims import USER
from millstream_gateway.services.keys import digest_of_key
from millstream_gateway.services.secret_box import SecretBox
from millstream_gateway.settings import AuthSettings

REFRESH_PREFIX: Final = "msr_"
_REFRESH: Final = re.compile(r"msr_([a-f0-9]{24})_([a-f0-9]{32})([a-f0-9]{64})\Z", re.ASCII)
_SESSIONS_MAX: Final = 10_000
_SESSIONS_OF_ONE_MAX: Final = 100
_REVOCATIONS_MAX: Final = 10_000
# Longer than any token that is accepted can live; see `tokens.FOREIGN_LIFE_MAX_MS`.
_REVOKED_FOR_MS: Final = 91 * 86_400_000
_NOT_GOOD: Final = "this refresh token is not good (any more); sign in again"


class Signer(Protocol):
    """Makes tokens of claims."""

    def sign(self, claims: dict[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class Issued:
    """What somebody gets who signs in."""

    session: SessionRecord
    access_token: str
    access_ttl_ms: int
    refresh_token: str


class SessionService:
    """Threads  Any. Everything but `principal_of` and `is_revoked` blocks."""

    def __init__(
        self,
        settings: AuthSettings,
        store: MetaStore,
        signer: Signer,
        audit: AuditLog,
        box: SecretBox,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._store = store
        self._signer = signer
        self._audit = audit
        self._clock = clock
        self._box = box
        self._marked = ""
        #: Whose sign-ins count: the providers that are configured.
        self.issuers: frozenset[str] = frozenset()

    def begin(
        self,
        principal: Principal,
        client: str,
        *,
        issuer: str = "",
        verbs: Collection[Action] = (),
        key_text: str = "",
    ) -> Issued:
        """Sign somebody in whose credentials were checked; ``key_text`` is what a key was."""
        wanted = frozenset(verbs) or principal.verbs
        if not wanted <= principal.verbs:
            beyond = ", ".join(sorted(wanted - principal.verbs))
            raise PermissionDeniedError(f"{principal.name} cannot have: {beyond}")
        now_ms = self._clock()
        ends = [now_ms + self._settings.session_ttl]
        if principal.expires_ms is not None:
            ends.append(principal.expires_ms)
        family, secret = secrets.token_hex(16), secrets.token_hex(32)
        session = SessionRecord(
            id=secrets.token_hex(12),
            kind=principal.kind,
            subject=self._mark() if principal.kind == "admin_key" else principal.id,
            issuer=issuer,
            name=principal.name,
            role=principal.role.value,
            verbs=tuple(sorted(wanted)),
            tenants=tuple(sorted(principal.tenants)),
            family_digest=_digest(family),
            current_digest=_digest(secret),
            created_ms=now_ms,
            renewed_ms=now_ms,
            expires_ms=min(ends),
            client=client,
            key_digest=digest_of_key(key_text) if principal.kind == "key" else "",
        )
        at = (Kind.SESSION, session.id)
        self._store.commit({at: session.to_value()}, self._to_forget(session), expect={at: ABSENT})
        caller = Caller(principal, client=client)
        self._audit.record(caller, "session.begin", "ok", session=session.id, issuer=issuer)
        return self._issued(session, principal, family, secret)

    def renew(self, text: str, client: str) -> Issued:
        """New tokens for a refresh token, which is good no more afterwards.

        `UnauthenticatedError` when it is none. One that was used before ends its session.
        """

        def attempt() -> Issued:
            found = self._find(text)
            session, at = found.session, (Kind.SESSION, found.session.id)
            principal = self.principal_of(session.id)
            now_ms = self._clock()
            if principal is None or now_ms >= session.renewed_ms + self._settings.session_idle:
                self._store.commit({}, [at])
                raise UnauthenticatedError(_NOT_GOOD)
            caller = Caller(principal, client=client)
            if not hmac.compare_digest(_digest(found.secret), session.current_digest):
                self._store.commit({}, [at])
                self._audit.record(caller, "session.reuse", "revoked", session=session.id)
                raise UnauthenticatedError(
                    "this refresh token was used before: its session is over; sign in again"
                )
            fresh = secrets.token_hex(32)
            after = replace(
                session,
                current_digest=_digest(fresh),
                renewed_ms=now_ms,
                renewals=session.renewals + 1,
            )
            # Aborted when somebody else came with the same token, or the session has ended.
            self._store.commit({at: after.to_value()}, expect={at: found.version})
            self._audit.record(caller, "session.renew", "ok", session=session.id)
            return self._issued(after, principal, found.family, fresh)

        return retried(attempt, "the session is being changed by others; try again")

    def end_by_refresh_token(self, text: str, client: str) -> None:
        """Sign out. One that was used before will do, too: it ends the session all the same."""
        found = self._find(text)
        principal = self.principal_of(found.session.id)
        self._store.commit({}, [(Kind.SESSION, found.session.id)])
        if principal is not None:
            caller = Caller(principal, client=client)
            self._audit.record(caller, "session.end", "ok", session=found.session.id)

    def end(self, caller: Caller, session_id: str) -> None:
        """Sign the caller out of a session of their own."""
        self._store.commit({}, [(Kind.SESSION, session_id)])
        self._audit.record(caller, "session.end", "ok", session=session_id)

    def visible_to(self, caller: Caller) -> list[SessionRecord]:
        """The sessions in the caller's tenants, by id; those that are over are left out."""
        require(caller.principal, Action.ADMIN, Resource())
        return [
            session
            for session in self._all()
            if self.principal_of(session.id) is not None
            and covers(caller.principal, frozenset(session.tenants))
        ]

    def revoke(self, caller: Caller, session_id: str) -> SessionRecord:
        """End somebody's session. `NotFoundError` also when it is in somebody else's tenants."""
        require(caller.principal, Action.ADMIN, Resource())
        session = self._get(session_id)
        if session is None or not covers(caller.principal, frozenset(session.tenants)):
            raise NotFoundError("there is no such session")
        self._store.commit({}, [(Kind.SESSION, session_id)])
        self._audit.record(caller, "session.revoke", "ok", session=session_id, subject=session.name)
        return session

    def revoke_tokens(
        self, caller: Caller, issuer: str, *, subject: str = "", token_id: str = ""
    ) -> int:
        """Refuse a foreign token by its id, or all that a subject has by now, and end its sessions.

        Only for who has every tenant: nobody else knows whose the tokens are. Returns how many
        sessions ended.
        """
        require(caller.principal, Action.ADMIN, Resource())
        if not caller.principal.has_every_tenant:
            raise PermissionDeniedError(f"{caller.principal.name} does not have every tenant")
        now_ms = self._clock()
        snapshot = self._store.snapshot()
        puts: dict[RecordKey, dict[str, Any]] = {}
        for name in filter(None, (_of_subject(issuer, subject), _of_token(issuer, token_id))):
            puts[(Kind.REVOCATION, name)] = {
                "issuer": issuer,
                "subject": subject,
                "token_id": token_id,
                "before_ms": now_ms,
                "until_ms": now_ms + _REVOKED_FOR_MS,
            }
        over = [
            (Kind.REVOCATION, name)
            for name, record in snapshot.of_kind(Kind.REVOCATION).items()
            if now_ms >= record.value["until_ms"] and (Kind.REVOCATION, name) not in puts
        ]
        if len(snapshot.of_kind(Kind.REVOCATION)) - len(over) >= _REVOCATIONS_MAX:
            raise ResourceExhaustedError(f"there are {_REVOCATIONS_MAX} revocations")
        ended = [
            (Kind.SESSION, one.id)
            for one in self._all()
            if subject and one.kind == USER and one.subject == f"{issuer}#{subject}"
        ]
        self._store.commit(puts, [*over, *ended])
        self._audit.record(
            caller, "token.revoke", "ok", issuer=issuer, subject=subject, token=token_id
        )
        return len(ended)

    def is_revoked(self, issuer: str, subject: str, token_id: str, issued_ms: int) -> bool:
        """Whether somebody had this foreign token refused."""
        snapshot = self._store.snapshot()
        by_token = _of_token(issuer, token_id)
        if by_token and snapshot.get(Kind.REVOCATION, by_token) is not None:
            return True
        record = snapshot.get(Kind.REVOCATION, _of_subject(issuer, subject))
        return record is not None and issued_ms <= record.value["before_ms"]

    def principal_of(self, session_id: str) -> Principal | None:
        """What the session may do now; None when it is over."""
        session = self._get(session_id)
        if session is None or self._clock() >= session.expires_ms:
            return None
        owner = self._owner_of(session)
        if owner is None:
            return None
        verbs = owner.verbs & frozenset(map(Action, session.verbs))
        return replace(owner, verbs=verbs, session=session.id)

    def _owner_of(self, session: SessionRecord) -> Principal | None:
        if session.kind == "key":
            record = self._store.snapshot().get(Kind.KEY, session.subject)
            key = None if record is None else KeyRecord.from_value(session.subject, record.value)
            now_ms = self._clock()
            if key is None or key.state(now_ms) != "active":
                return None
            # A secret that was turned away takes what was begun with it along.
            until_ms = key.good_until_ms(session.key_digest, now_ms)
            over = until_ms is not None and now_ms >= until_ms
            return None if over else replace(key.principal, expires_ms=until_ms)
        if session.kind == "admin_key":
            return ADMIN_KEY if hmac.compare_digest(session.subject, self._mark()) else None
        if session.issuer == LOCAL:
            name = session.subject.removeprefix(f"{LOCAL}#")
            found = self._store.snapshot().get(Kind.USER, name)
            user = None if found is None else UserRecord.from_value(name, found.value)
            # Gone, shut out, or signed in by a password that is not theirs any more.
            if user is None or user.disabled or session.created_ms < user.changed_ms:
                return None
            return user.principal
        if session.issuer not in self.issuers:
            return None
        return Principal(
            kind=USER,
            id=session.subject,
            name=session.name,
            role=Role(session.role),
            verbs=VERBS,
            tenants=frozenset(session.tenants),
        )

    def _mark(self) -> str:
        """Tells a session by one admin key from those by the next, and nothing about the key."""
        key = self._settings.admin_key
        if key is not None and not self._marked:
            self._marked = self._box.mark(key.get_secret_value().encode())
        return self._marked or "none"

    def _issued(
        self, session: SessionRecord, principal: Principal, family: str, secret: str
    ) -> Issued:
        now_ms = self._clock()
        until_ms = min(now_ms + self._settings.access_ttl, session.expires_ms)
        claims = {
            "iss": self._settings.token_issuer,
            "aud": self._settings.token_audience,
            "sub": f"{session.kind}:{principal.id}",
            "sid": session.id,
            "jti": secrets.token_hex(12),
            "iat": now_ms // 1000,
            # Never shorter than a second: what is short is a setting of tests.
            "exp": -(-until_ms // 1000),
            "name": session.name,
            "role": session.role,
            "tenants": list(session.tenants),
            "scope": " ".join(session.verbs),
        }
        refresh = f"{REFRESH_PREFIX}{session.id}_{family}{secret}"
        return Issued(session, self._signer.sign(claims), until_ms - now_ms, refresh)

    def _find(self, text: str) -> _Found:
        match = _REFRESH.match(text)
        snapshot = self._store.snapshot()
        session_id, family, secret = match.groups() if match else ("", "", "")
        record = snapshot.get(Kind.SESSION, session_id)
        session = None if record is None else SessionRecord.from_value(session_id, record.value)
        if (
            record is None
            or session is None
            or not hmac.compare_digest(_digest(family), session.family_digest)
        ):
            raise UnauthenticatedError(_NOT_GOOD)
        return _Found(session, record.version, family, secret)

    def _get(self, session_id: str) -> SessionRecord | None:
        record = self._store.snapshot().get(Kind.SESSION, session_id)
        return None if record is None else SessionRecord.from_value(session_id, record.value)

    def _all(self) -> list[SessionRecord]:
        records = self._store.snapshot().of_kind(Kind.SESSION)
        return [SessionRecord.from_value(name, record.value) for name, record in records.items()]

    def _to_forget(self, new: SessionRecord) -> list[RecordKey]:
        """What goes so that a new session fits: those that are over, and one's own oldest."""
        now_ms, idle_ms = self._clock(), self._settings.session_idle
        forgotten, own, others = [], [], 0
        for one in self._all():
            if now_ms >= min(one.expires_ms, one.renewed_ms + idle_ms):
                forgotten.append(one)
            elif (one.kind, one.subject) == (new.kind, new.subject):
                own.append(one)
            else:
                others += 1
        own.sort(key=lambda one: one.renewed_ms)
        forgotten += own[: max(0, len(own) + 1 - _SESSIONS_OF_ONE_MAX)]
        if others >= _SESSIONS_MAX:
            raise ResourceExhaustedError(f"{_SESSIONS_MAX} others are signed in; try again later")
        return [(Kind.SESSION, one.id) for one in forgotten]


@dataclass(frozen=True, slots=True)
class _Found:
    session: SessionRecord
    version: int
    family: str
    secret: str


def _of_token(issuer: str, token_id: str) -> str:
    return "token:" + _digest(issuer + "\0" + token_id) if token_id else ""


def _of_subject(issuer: str, subject: str) -> str:
    return "subject:" + _digest(issuer + "\0" + subject) if subject else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
