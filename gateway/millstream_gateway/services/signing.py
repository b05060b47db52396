"""The keys that this server signs its own tokens with: made, published, turned, retired.

A key's life: from ``created_ms`` it is published, from ``signs_ms`` it signs, and
``auth.signing_overlap`` after the next one signs it is forgotten. The next key is published that
long before it signs, so that whoever keeps a copy of the published keys has it in time. Public
halves are in the MetaStore as they are, private ones locked; see `SecretBox`.
"""

from __future__ import annotations

import base64
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from millstream.errors import AbortedError, DataLossError, PermissionDeniedError
from millstream_gateway.backends.meta_store import ABSENT, Kind, MetaStore, RecordKey
from millstream_gateway.schemas.access import Action, Caller, Resource
from millstream_gateway.services.audit import AuditLog
from millstream_gateway.services.authorization import require
from millstream_gateway.services.secret_box import SecretBox, WrongKeyError
from millstream_gateway.services.token_format import VerificationKey
from millstream_gateway.settings import AuthSettings

log = structlog.get_logger(__name__)

ACCESS_TOKEN: Final = "at+jwt"  # noqa: S105
_RSA_BITS: Final = 3072

_Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class _SigningKey:
    kid: str
    algorithm: str
    public: Mapping[str, Any]
    locked: str
    created_ms: int
    signs_ms: int


class SigningKeys:
    """Threads  Any. `sign`, `maintain` and `turn` may block, `find` and `published` do not."""

    def __init__(
        self,
        settings: AuthSettings,
        store: MetaStore,
        box: SecretBox,
        audit: AuditLog,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._store = store
        self._box = box
        self._audit = audit
        self._clock = clock
        # Public keys by id, and the private one that was used last. Written whole, by any thread.
        self._known: tuple[int, dict[str, VerificationKey]] = (-1, {})
        self._private: tuple[str, _Private] | None = None

    def sign(self, claims: dict[str, Any]) -> str:
        """A token with these claims. Makes the first key when there is none. Blocks."""
        self.maintain()
        now_ms = self._clock()
        for key in reversed(self._keys()):
            if key.signs_ms > now_ms:
                continue
            private = self._unlocked(key)
            if private is not None:
                return jwt.encode(
                    claims,
                    private,
                    algorithm=key.algorithm,
                    headers={"kid": key.kid, "typ": ACCESS_TOKEN},
                )
        # Keys are there, and none can be used: auth.wrapping_key was changed.
        self._add(signs_ms=now_ms)
        return self.sign(claims)

    def find(self, kid: str | None) -> VerificationKey | None:
        """The public key of that id, as long as tokens by it are good."""
        revision = self._store.snapshot().revision
        if self._known[0] != revision:
            keys = {
                key.kid: VerificationKey(
                    key.kid, key.algorithm, jwt.PyJWK(dict(key.public), key.algorithm)
                )
                for key in self._keys()
            }
            self._known = revision, keys
        return None if kid is None else self._known[1].get(kid)

    def published(self) -> dict[str, Any]:
        """A JWK Set of the public keys."""
        return {
            "keys": [
                {**key.public, "kid": key.kid, "alg": key.algorithm, "use": "sig"}
                for key in self._keys()
            ]
        }

    def maintain(self) -> None:
        """Make, publish and forget keys as their time comes. Costs little when it has not."""
        now_ms = self._clock()
        keys = self._keys()
        if not keys:
            self._add(signs_ms=now_ms)
            return
        # What is published early and what stays late never exceeds the time between.
        overlap_ms = min(self._settings.signing_overlap, self._settings.signing_rotation)
        due_ms = keys[-1].signs_ms + self._settings.signing_rotation
        if now_ms >= due_ms - overlap_ms:
            self._add(signs_ms=max(due_ms, now_ms))
        ended = [
            key.kid
            for key, later in itertools.pairwise(keys)
            if now_ms >= later.signs_ms + max(overlap_ms, self._settings.access_ttl)
        ]
        if ended:
            self._store.commit({}, [(Kind.SIGNING_KEY, kid) for kid in ended])

    def turn(self, caller: Caller, *, forget: bool) -> str:
        """A new key that signs from now on; ``forget`` ends all tokens by the keys before it.

        Blocks.
        """
        require(caller.principal, Action.ADMIN, Resource())
        if not caller.principal.has_every_tenant:
            raise PermissionDeniedError(f"{caller.principal.name} does not have every tenant")
        before = [key.kid for key in self._keys()]
        kid = self._add(signs_ms=self._clock())
        if forget:
            self._store.commit({}, [(Kind.SIGNING_KEY, old) for old in before if old != kid])
        self._audit.record(caller, "signing_key.rotate", "ok", kid=kid, forgotten=forget)
        return kid

    def _keys(self) -> list[_SigningKey]:
        """In the order in which they sign."""
        found = []
        for kid, record in self._store.snapshot().of_kind(Kind.SIGNING_KEY).items():
            try:
                found.append(_SigningKey(kid=kid, **record.value))
            except TypeError as error:
                raise DataLossError(f"the signing key {kid} is damaged: {error}") from None
        return sorted(found, key=lambda key: (key.signs_ms, key.created_ms, key.kid))

    def _add(self, *, signs_ms: int) -> str:
        """A new key; nothing when another process made one meanwhile."""
        algorithm = self._settings.signing_algorithm
        private = _generate(algorithm)
        kid = secrets.token_urlsafe(12)
        raw = private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        value = {
            "algorithm": algorithm,
            "public": _public_jwk(private),
            "locked": base64.b64encode(self._box.lock(f"signing key {kid}", raw)).decode(),
            "created_ms": self._clock(),
            "signs_ms": signs_ms,
        }
        snapshot = self._store.snapshot()
        expect: dict[RecordKey, int] = {(Kind.SIGNING_KEY, kid): ABSENT}
        # The others are expected to be as they were: two processes must not both add one.
        expect |= {
            (Kind.SIGNING_KEY, other): record.version
            for other, record in snapshot.of_kind(Kind.SIGNING_KEY).items()
        }
        counter = (Kind.COUNTER, "signing_key")
        expect[counter] = snapshot.version(*counter)
        found = snapshot.get(*counter)
        made = 1 if found is None else found.value["made"] + 1
        try:
            self._store.commit(
                {(Kind.SIGNING_KEY, kid): value, counter: {"made": made}}, expect=expect
            )
        except AbortedError:
            keys = self._keys()
            if not keys:
                raise
            return keys[-1].kid
        return kid

    def _unlocked(self, key: _SigningKey) -> _Private | None:
        if self._private is not None and self._private[0] == key.kid:
            return self._private[1]
        try:
            raw = self._box.unlock(f"signing key {key.kid}", base64.b64decode(key.locked))
        except (WrongKeyError, ValueError):
            log.warning("a signing key cannot be unlocked and is not used", kid=key.kid)
            return None
        private = serialization.load_der_private_key(raw, None)
        if not isinstance(private, _Private):
            raise DataLossError(f"the signing key {key.kid} is of a kind that is not used here")
        self._private = key.kid, private
        return private


def _generate(algorithm: str) -> _Private:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, _RSA_BITS)


def _public_jwk(private: _Private) -> dict[str, Any]:
    public = private.public_key()
    found: dict[str, Any]
    if isinstance(public, ec.EllipticCurvePublicKey):
        found = ECAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, rsa.RSAPublicKey):
        found = RSAAlgorithm.to_jwk(public, as_dict=True)
    else:
        found = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {name: value for name, value in found.items() if name not in ("key_ops", "use", "alg")}
