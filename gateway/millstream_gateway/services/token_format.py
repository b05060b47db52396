"""JSON Web Tokens, read strictly and verified with a key whose algorithm is known beforehand.

What a token says about itself is used for two look-ups and nothing else: its issuer and its key id,
both as keys of a dictionary. It never chooses an algorithm, brings a key, or names a place to fetch
one from. A text that can be read in two ways (padding, unused bits, a name twice) is refused, so
the same token always is the same text.

Source  RFC 7515, 7519, 8725 (best current practices), 9068 (access tokens)
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import jwt

from millstream.errors import UnauthenticatedError

TOKEN_BYTES_MAX: Final = 8192
KEY_ID: Final = re.compile(r"[A-Za-z0-9_.:=+/@~-]{1,200}\Z", re.ASCII)
# How far the clocks of two machines may be apart.
LEEWAY_SECONDS: Final = 30
_SEGMENT: Final = re.compile(rb"[A-Za-z0-9_-]+\Z")
# Each of these brings a key, a place to get one, or another way to read what follows.
_REFUSED_HEADERS: Final = frozenset(
    {"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc", "cty", "epk", "apu", "apv", "p2s"}
)
_TIMES: Final = ("exp", "iat", "nbf")
_TIME_MAX: Final = 1 << 40
_TEXTS: Final = ("iss", "sub", "jti")
_TEXT_MAX: Final = 1000
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not good yet"),
    (jwt.InvalidAudienceError, "it is meant for somebody else"),
    (jwt.InvalidIssuerError, "its issuer is not known here"),
    (jwt.InvalidIssuedAtError, "it was made in the future"),
    (jwt.MissingRequiredClaimError, "it lacks a claim: exp, iat, iss, aud and sub are needed"),
    (jwt.InvalidAlgorithmError, "its algorithm is not the one of its issuer's keys"),
    (jwt.InvalidSignatureError, "its signature is wrong"),
)


class TokenRefusedError(UnauthenticatedError):
    """A token that is not good. The text never holds a part of it.

    ``was_good`` is whether it was signed by whom it names, so that whoever sends it has guessed
    nothing.
    """

    def __init__(self, reason: str, *, was_good: bool = False) -> None:
        super().__init__(f"this token is not good: {reason}")
        self.was_good = was_good


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the one algorithm that it is used with."""

    kid: str
    algorithm: str
    key: jwt.PyJWK


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token claims before anybody has looked at its signature."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]

    @property
    def issuer(self) -> str:
        issuer: str = self.claims["iss"]
        return issuer

    @property
    def kid(self) -> str | None:
        return self.header.get("kid")


def looks_like_token(text: str) -> bool:
    """Whether this is meant to be a token and not an API key."""
    return text.count(".") == 2


def read_unverified(text: str) -> UnverifiedToken:
    """The token's parts. `TokenRefusedError` for everything that is not exactly one."""
    if len(text) > TOKEN_BYTES_MAX or not text.isascii():
        raise TokenRefusedError("it is too long, or no token at all")
    segments = text.encode().split(b".")
    if len(segments) != 3:
        raise TokenRefusedError("it has not three parts")
    header_bytes, claims_bytes, _ = map(_decoded, segments)
    header, claims = _object(header_bytes), _object(claims_bytes)
    _check_header(header)
    _check_claims(claims)
    return UnverifiedToken(text, header, claims)


def verify(
    token: UnverifiedToken,
    key: VerificationKey,
    *,
    issuer: str,
    audience: str,
    types: Iterable[str | None],
    leeway_seconds: int = LEEWAY_SECONDS,
) -> dict[str, Any]:
    """The claims, when this key signed them and they are for us, now.

    ``types`` are the values of ``typ`` that will do, in lower case; None when it may be absent.
    Without leeway the clock is the one that made the token, or one that must agree with it.
    """
    kind = token.header.get("typ")
    if (kind if kind is None else kind.lower().removeprefix("application/")) not in types:
        raise TokenRefusedError("it is a token of another kind")
    try:
        claims: dict[str, Any] = jwt.decode(
            token.text,
            key.key,
            algorithms=[key.algorithm],
            issuer=issuer,
            audience=audience,
            leeway=leeway_seconds,
            options={
                "require": ["exp", "iat", "iss", "aud", "sub"],
                "verify_iat": leeway_seconds > 0,
                "enforce_minimum_key_length": True,
            },
        )
    except jwt.PyJWTError as error:
        reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "")
        raise TokenRefusedError(
            reason or "it cannot be verified",
            was_good=isinstance(error, jwt.ExpiredSignatureError),
        ) from None
    return claims


def _decoded(segment: bytes) -> bytes:
    if not _SEGMENT.match(segment) or len(segment) % 4 == 1:
        raise TokenRefusedError("its parts are not base64url")
    try:
        decoded = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error:
        raise TokenRefusedError("its parts are not base64url") from None
    # Bits that no byte needs would give one token several texts.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment:
        raise TokenRefusedError("its parts are not base64url")
    return decoded


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(
            text.decode(), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise TokenRefusedError("its parts are not JSON objects") from None
    if not isinstance(found, dict):
        raise TokenRefusedError("its parts are not JSON objects")
    return found


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TokenRefusedError("it says something twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_header(header: dict[str, Any]) -> None:
    if not _REFUSED_HEADERS.isdisjoint(header):
        raise TokenRefusedError("its header asks for what is not done here")
    if not isinstance(header.get("alg"), str):
        raise TokenRefusedError("its algorithm is not the one of its issuer's keys")
    if "typ" in header and not isinstance(header["typ"], str):
        raise TokenRefusedError("it is a token of another kind")
    if "kid" in header:
        kid = header["kid"]
        if not isinstance(kid, str) or not KEY_ID.match(kid):
            raise TokenRefusedError("its key is not known here")


def _check_claims(claims: dict[str, Any]) -> None:
    for name in _TEXTS:
        value = claims.get(name, "")
        if not isinstance(value, str) or len(value) > _TEXT_MAX or not value.isprintable():
            raise TokenRefusedError(f"its {name} is no text that it could be")
    if not claims.get("iss") or not claims.get("sub"):
        raise TokenRefusedError("it lacks a claim: exp, iat, iss, aud and sub are needed")
    for name in _TIMES:
        moment = claims.get(name, 0)
        if isinstance(moment, bool) or not isinstance(moment, (int, float)):
            raise TokenRefusedError(f"its {name} is no time")
        if not math.isfinite(moment) or not 0 <= moment <= _TIME_MAX:
            raise TokenRefusedError(f"its {name} is no time")
    audience = claims.get("aud", "")
    listed = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(one, str) for one in listed):
        raise TokenRefusedError("it is meant for somebody else")
