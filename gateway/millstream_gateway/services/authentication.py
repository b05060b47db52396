"""Who calls: from a request's credentials to a `Principal`.

A credential that was checked is remembered under its SHA-256, so the next request pays for one hash
and one look-up; of more than ``_REMEMBERED_MAX`` the longest unused is forgotten. What is remembered
is good for one revision of the store and one set of keys of the issuers: after any change there,
also one by another process, every key is checked anew, and every token for what could have ended
it. That is not held up by other people's failures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from millstream.errors import UnauthenticatedError, UnavailableError
from millstream_gateway.backends.meta_store import Kind, MetaStore
from millstream_gateway.backends.redis_buckets import (
    ASK_AND_PAY,
    PAY,
    RedisBuckets,
    SharedGoneError,
    Step,
)
from millstream_gateway.errors import TooManyAttemptsError
from millstream_gateway.schemas.access import ADMIN_KEY, ANONYMOUS, Principal
from millstream_gateway.services.client_address import network_of_client
from millstream_gateway.services.issuers import KeysNeededError
from millstream_gateway.services.keys import KeyService
from millstream_gateway.services.token_format import (
    TokenRefusedError,
    looks_like_token,
    read_unverified,
)
from millstream_gateway.services.tokens import TokenService, VerifiedToken
from millstream_gateway.settings import AuthSettings

_HOW: Final = (
    "send an API key or an access token as Authorization: Bearer …, a key also as X-API-Key or as "
    "Basic password"
)
_CREDENTIAL_BYTES_MAX: Final = 8192
_REMEMBERED_MAX: Final = 10_000
_CLIENTS_MAX: Final = 10_000
_MINUTE_MS: Final = 60_000
_FOREVER_MS: Final = 1 << 62
_SIGN_IN_TAG: Final = "sign-in"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought: the values of the two headers, as they came."""

    authorization: tuple[bytes, ...] = ()
    api_key: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody whose credentials were good at a revision of the store."""

    principal: Principal
    revision: int
    until_ms: int
    token: VerifiedToken | None = None
    #: Under which they are remembered.
    digest: bytes = b""


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
        debt = self._debts.get(network_of_client(client), 0.0)
        return max(0, int(debt + self._step_ms - _MINUTE_MS - now_ms))

    def count(self, client: str, now_ms: int) -> None:
        network = network_of_client(client)
        self._debts[network] = max(self._debts.get(network, 0.0), float(now_ms)) + self._step_ms
        self._debts.move_to_end(network)
        if len(self._debts) > _CLIENTS_MAX:
            self._debts.popitem(last=False)


class SharedAttempts:
    """`FailedAttempts` of all gateways together, in Redis.

    Fails closed: who cannot be counted is not let to try. Callers who were good before are not
    asked; see `Authenticator.identify`.
    """

    def __init__(self, per_minute: int, shared: RedisBuckets) -> None:
        self._step = 60.0 / per_minute
        self._shared = shared

    async def check(self, client: str) -> None:
        """`TooManyAttemptsError` while this address must wait, wherever it failed."""
        step = Step(f"failed:{network_of_client(client)}", 0.0, self._step, 60.0, ASK_AND_PAY)
        try:
            answer = await self._shared.ask(_SIGN_IN_TAG, (step,))
        except SharedGoneError:
            raise UnavailableError(
                "nobody can sign in while the gateways cannot count failed attempts together "
                "(redis.url); callers who were signed in before go on"
            ) from None
        if answer.wait > 0:
            raise too_many_attempts(int(answer.wait * 1000) + 1)

    def count(self, client: str) -> None:
        step = Step(f"failed:{network_of_client(client)}", self._step, 0.0, 60.0, PAY)
        self._shared.pay(_SIGN_IN_TAG, (step,))


def too_many_attempts(wait_ms: int) -> TooManyAttemptsError:
    """The refusal of one more try."""
    return TooManyAttemptsError(
        "too many failed sign-ins from this address, more than "
        "auth.failed_attempts_per_minute; wait or ask for it to be raised",
        retry_after_ms=wait_ms,
    )


class Authenticator:
    """Threads  `authenticate` from the event loop only; nothing in it blocks."""

    def __init__(
        self,
        settings: AuthSettings,
        store: MetaStore,
        keys: KeyService,
        tokens: TokenService,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        shared: RedisBuckets | None = None,
    ) -> None:
        secret = settings.admin_key
        self._admin = None if secret is None else _sha256(secret.get_secret_value().encode())
        self._store = store
        self._keys = keys
        self._tokens = tokens
        self._elsewhere = bool(settings.issuers or settings.providers.named())
        self._clock = clock
        self._remembered: OrderedDict[bytes, Known] = OrderedDict()
        self._failed = FailedAttempts(settings.failed_attempts_per_minute)
        self._shared = (
            None if shared is None else SharedAttempts(settings.failed_attempts_per_minute, shared)
        )
        self._required = (-1, False)

    @property
    def required(self) -> bool:
        """Whether any credentials are configured. Without, everybody is anonymous.

        A key that was revoked counts: revoking the last key must not open the server.
        """
        if self._admin is not None or self._elsewhere:
            return True
        snapshot = self._store.snapshot()
        if self._required[0] != snapshot.revision:
            some = bool(snapshot.of_kind(Kind.KEY) or snapshot.of_kind(Kind.USER))
            self._required = (snapshot.revision, some)
        return self._required[1]

    async def identify(self, credentials: Credentials, client: str) -> Principal:
        """As `authenticate`; asks a foreign issuer for its keys when that is worth while.

        And asks the other gateways how often this address has failed, unless the credentials were
        good before, at whatever revision: they are no guess, and are looked at again anyway.
        """
        if (
            self._shared is not None
            and self.required
            and credentials != Credentials()
            and _digest_of(credentials) not in self._remembered
        ):
            await self._shared.check(client)
        try:
            return self.authenticate(credentials, client)
        except KeysNeededError as needed:
            token = read_unverified(_secret_of(credentials) or "")
            await needed.keys.refresh(token)
        # Not worth while a second time: the issuer was asked a moment ago.
        return self.authenticate(credentials, client)

    def known(self, credentials: Credentials) -> Known | None:
        """Whose credentials these are, when they were good a moment ago; None says nothing."""
        revision = self._revision()
        if not self.required:
            return Known(ANONYMOUS, revision, _FOREVER_MS)
        found = self._remembered.get(_digest_of(credentials))
        return found if found is not None and self.still_good(found) else None

    def still_good(self, known: Known) -> bool:
        """Whether nothing has changed since; counts as a use."""
        if known.revision != self._revision():
            return False
        return self._used(known, self._clock()) is not None

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
        principal = self._good_before(digest, lambda: _secret_of(credentials), now_ms)
        if principal is not None:
            return principal
        self.check_wait(client, now_ms)
        return self._check(credentials, digest, client, now_ms)

    def check_wait(self, client: str, now_ms: int | None = None) -> None:
        """`TooManyAttemptsError` while this address must wait."""
        wait_ms = self._failed.wait_ms(client, self._clock() if now_ms is None else now_ms)
        if wait_ms:
            raise too_many_attempts(wait_ms)

    async def check_elsewhere(self, client: str) -> None:
        """For routes where people sign in: what `check_wait` says, of all gateways together."""
        if self._shared is not None:
            await self._shared.check(client)

    def count_failure(self, client: str) -> None:
        """Somebody at this address brought what nobody gave them."""
        self._failed.count(client, self._clock())
        if self._shared is not None:
            self._shared.count(client)

    async def identify_key(self, text: str, client: str) -> Principal:
        """Whose key this is, however it was sent; otherwise as `identify`."""
        # As the header that most send it in, so that it is the same key here and there.
        digest = _sha256(b"Bearer " + text.encode("utf-8", "surrogateescape"))
        now_ms = self._clock()
        known = self._remembered.get(digest)
        if known is None or known.token is not None:
            await self.check_elsewhere(client)
        else:
            principal = self._good_before(digest, lambda: text, now_ms)
            if principal is not None:
                return principal
        self.check_wait(client, now_ms)
        revision = self._revision()
        found = self._by_key(text, now_ms)
        if found is None:
            raise self._refused(client)
        return self._remember(_known(digest, found, revision))

    def _good_before(
        self, digest: bytes, secret: Callable[[], str | None], now_ms: int
    ) -> Principal | None:
        """Whose credentials these are, when they were good before and are now."""
        known = self._remembered.get(digest)
        if known is not None and known.revision != self._revision():
            known = self._renewed(digest, known, secret() or "", now_ms)
        return None if known is None else self._used(known, now_ms)

    def _refused(self, client: str) -> UnauthenticatedError:
        self.count_failure(client)
        return UnauthenticatedError(f"these credentials are not good (any more): {_HOW}")

    def _remember(self, known: Known) -> Principal:
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        self._remembered[known.digest] = known
        return known.principal

    def claimed_key(self, credentials: Credentials) -> dict[str, str]:
        """Which key these credentials claim to be, for the audit log: never a secret."""
        try:
            text = _secret_of(credentials) or ""
        except UnauthenticatedError:
            return {}
        return self.claimed_by(text)

    def claimed_by(self, text: str) -> dict[str, str]:
        """As `claimed_key`, of a key's text."""
        key_id = self._keys.claimed(text)
        return {"key": key_id} if key_id else {}

    def _used(self, known: Known, now_ms: int) -> Principal | None:
        if now_ms >= known.until_ms:
            return None
        if known.digest in self._remembered:
            self._remembered.move_to_end(known.digest)
        if known.principal.kind == "key":
            self._keys.note_use(known.principal.id, now_ms)
        return known.principal

    def _revision(self) -> int:
        # Both only grow, so their sum tells every change.
        return self._store.snapshot().revision + self._tokens.epoch

    def _renewed(self, digest: bytes, known: Known, secret: str, now_ms: int) -> Known | None:
        """Remembered anew when still good: a key by its record, a token without its signature."""
        revision = self._revision()
        renewed: Known | None = None
        if known.token is not None:
            token = self._tokens.renewed(known.token)
            if token is not None:
                renewed = Known(token.principal, revision, token.until_ms, token, digest)
        else:
            found = self._by_key(secret, now_ms)
            if found is not None:
                renewed = _known(digest, found, revision)
        if renewed is None:
            del self._remembered[digest]
        else:
            self._remembered[digest] = renewed
        return renewed

    def _check(
        self, credentials: Credentials, digest: bytes, client: str, now_ms: int
    ) -> Principal:
        # Before the look: what is remembered may be older than what is checked, never newer.
        revision = self._revision()
        text = _secret_of(credentials)
        if text is None:
            # Asking without credentials is how clients find out that they are needed.
            raise UnauthenticatedError(f"credentials are needed: {_HOW}")
        token: VerifiedToken | None = None
        found = self._by_key(text, now_ms)
        if found is None and looks_like_token(text):
            try:
                token = self._tokens.verify(text)
            except TokenRefusedError as error:
                if not error.was_good:
                    self.count_failure(client)
                raise
            found = token.principal, token.until_ms
        if found is None:
            raise self._refused(client)
        return self._remember(_known(digest, found, revision, token))

    def _by_key(self, text: str, now_ms: int) -> tuple[Principal, int | None] | None:
        """Whose key this is, and when to ask again."""
        if self._admin is not None and hmac.compare_digest(
            _sha256(text.encode("utf-8", "surrogateescape")), self._admin
        ):
            return ADMIN_KEY, None
        verified = self._keys.verify(text)
        if verified is None:
            return None
        key, until_ms = verified
        self._keys.note_use(key.id, now_ms)
        return key.principal, until_ms


def _known(
    digest: bytes,
    found: tuple[Principal, int | None],
    revision: int,
    token: VerifiedToken | None = None,
) -> Known:
    principal, until = found
    return Known(principal, revision, _FOREVER_MS if until is None else until, token, digest)


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
    if scheme.lower() == "token":
        # What Influx's clients send: a token, or for version 1 `user:password`.
        user, colon, password = rest.strip().partition(":")
        return password if colon else user
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return decoded.partition(":")[2]
    return ""


def _sha256(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
