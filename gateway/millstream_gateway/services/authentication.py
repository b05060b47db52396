"""Who calls: from a request's credentials to a `Principal`.

A credential that was checked is remembered under its SHA-256, so the next request pays for one hash
and one look-up. What is remembered is good for one revision of the store: after any change there,
also one by another process, every credential is checked anew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from millstream.errors import UnauthenticatedError
from millstream_gateway.backends.meta_store import Kind, MetaStore
from millstream_gateway.errors import TooManyAttemptsError
from millstream_gateway.schemas.access import EVERY_TENANT, VERBS, Action, Principal, Role
from millstream_gateway.services.keys import KeyService
from millstream_gateway.settings import AuthSettings

ANONYMOUS: Final = Principal(
    kind="anonymous",
    id="",
    name="an anonymous caller",
    role=Role.USER,
    verbs=frozenset({Action.READ, Action.WRITE, Action.MONITOR}),
    tenants=frozenset({EVERY_TENANT}),
)
ADMIN_KEY: Final = Principal(
    kind="admin_key",
    id="auth.admin_key",
    name="the key of auth.admin_key",
    role=Role.ADMIN,
    verbs=VERBS,
    tenants=frozenset({EVERY_TENANT}),
)
_HOW: Final = "send an API key as Authorization: Bearer ms_…, as X-API-Key, or as Basic password"
_CREDENTIAL_BYTES_MAX: Final = 8192
_REMEMBERED_MAX: Final = 10_000
_CLIENTS_MAX: Final = 10_000
_MINUTE_MS: Final = 60_000
_FOREVER_MS: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought: the values of the two headers, as they came."""

    authorization: tuple[bytes, ...] = ()
    api_key: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    revision: int
    until_ms: int


class FailedAttempts:
    """How often each client address may fail: a bucket of a minute's worth that refills evenly.

    GCRA: one number for each address says until when its bucket is in debt. A network of IPv6 that
    one customer has (/64) is one address. Past ``_CLIENTS_MAX`` the longest idle is forgotten.
    """

    def __init__(self, per_minute: int) -> None:
        self._step_ms = _MINUTE_MS / per_minute
        self._debts: OrderedDict[str, float] = OrderedDict()

    def wait_ms(self, client: str, now_ms: int) -> int:
        """How long this address must wait before it may try again; 0 is not at all."""
        debt = self._debts.get(_network(client), 0.0)
        return max(0, int(debt + self._step_ms - _MINUTE_MS - now_ms))

    def count(self, client: str, now_ms: int) -> None:
        network = _network(client)
        self._debts[network] = max(self._debts.get(network, 0.0), float(now_ms)) + self._step_ms
        self._debts.move_to_end(network)
        if len(self._debts) > _CLIENTS_MAX:
            self._debts.popitem(last=False)


class Authenticator:
    """Threads  `authenticate` from the event loop only; nothing in it blocks."""

    def __init__(
        self,
        settings: AuthSettings,
        store: MetaStore,
        keys: KeyService,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        secret = settings.admin_key
        self._admin = None if secret is None else _sha256(secret.get_secret_value().encode())
        self._store = store
        self._keys = keys
        self._clock = clock
        self._remembered: dict[bytes, _Remembered] = {}
        self._failed = FailedAttempts(settings.failed_attempts_per_minute)
        self._required = (-1, False)

    @property
    def required(self) -> bool:
        """Whether any credentials are configured. Without, everybody is anonymous.

        A key that was revoked counts: revoking the last key must not open the server.
        """
        if self._admin is not None:
            return True
        snapshot = self._store.snapshot()
        if self._required[0] != snapshot.revision:
            self._required = (snapshot.revision, bool(snapshot.of_kind(Kind.KEY)))
        return self._required[1]

    def authenticate(self, credentials: Credentials, client: str) -> Principal:
        """Whose credentials these are.

        `UnauthenticatedError` when they are nobody's, and `TooManyAttemptsError` when that happened
        too often. An address in debt is refused before its credentials are looked at, save those
        that were good a moment ago: a stranger behind the same proxy must not lock them out.
        """
        if not self.required:
            return ANONYMOUS
        digest = _digest_of(credentials)
        now_ms = self._clock()
        known = self._remembered.get(digest)
        if (
            known is not None
            and known.revision == self._store.snapshot().revision
            and now_ms < known.until_ms
        ):
            if known.principal.kind == "key":
                self._keys.note_use(known.principal.id, now_ms)
            return known.principal
        wait_ms = self._failed.wait_ms(client, now_ms)
        if wait_ms:
            raise TooManyAttemptsError(
                "too many failed sign-ins from this address, more than "
                "auth.failed_attempts_per_minute; wait or ask for it to be raised",
                retry_after_ms=wait_ms,
            )
        return self._check(credentials, digest, client, now_ms)

    def _check(
        self, credentials: Credentials, digest: bytes, client: str, now_ms: int
    ) -> Principal:
        # Before the look: what is remembered may be older than what is checked, never newer.
        revision = self._store.snapshot().revision
        text = _secret_of(credentials)
        if text is None:
            # Asking without credentials is how clients find out that they are needed.
            raise UnauthenticatedError(f"credentials are needed: {_HOW}")
        found: tuple[Principal, int | None] | None = None
        if self._admin is not None and hmac.compare_digest(
            _sha256(text.encode("utf-8", "surrogateescape")), self._admin
        ):
            found = ADMIN_KEY, None
        else:
            verified = self._keys.verify(text)
            if verified is not None:
                key, until_ms = verified
                found = key.principal, until_ms
                self._keys.note_use(key.id, now_ms)
        if found is None:
            self._failed.count(client, now_ms)
            raise UnauthenticatedError(f"these credentials are not good (any more): {_HOW}")
        principal, until = found
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        until_ms = _FOREVER_MS if until is None else until
        self._remembered[digest] = _Remembered(principal, revision, until_ms)
        return principal


def _digest_of(credentials: Credentials) -> bytes:
    if len(credentials.authorization) == 1 and not credentials.api_key:
        return _sha256(credentials.authorization[0])
    return _sha256(b"\n".join((*credentials.authorization, b"", *credentials.api_key)))


def _secret_of(credentials: Credentials) -> str | None:
    """The key that a request carries; None when it carries none."""
    secrets = [value.decode("latin-1").strip() for value in credentials.api_key]
    secrets += map(_from_authorization, credentials.authorization)
    if len(set(secrets)) > 1:
        raise UnauthenticatedError("the request carries several credentials; send one")
    if not secrets:
        return None
    if len(secrets[0]) > _CREDENTIAL_BYTES_MAX:
        raise UnauthenticatedError("the credentials are too long to be any")
    return secrets[0]


def _from_authorization(value: bytes) -> str:
    scheme, _, rest = value.decode("latin-1").strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return decoded.partition(":")[2]
    return ""


def _sha256(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def _network(client: str) -> str:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client
