"""Access tokens, our own and those of foreign issuers: from a text to a `Principal`.

The issuer that a token names is looked up among those that are known; everything else that decides
(keys, algorithm, audience, kinds) hangs on what is found there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from millstream_gateway.backends.outbound import Outbound
from millstream_gateway.schemas.access import Principal
from millstream_gateway.services.claims import principal_from
from millstream_gateway.services.issuers import IssuerKeys
from millstream_gateway.services.sessions import SessionService
from millstream_gateway.services.signing import ACCESS_TOKEN, SigningKeys
from millstream_gateway.services.token_format import (
    LEEWAY_SECONDS,
    TokenRefusedError,
    VerificationKey,
    read_unverified,
    verify,
)
from millstream_gateway.settings import AuthSettings, IssuerSettings

# A token of somebody else's is not believed for longer, whatever it says.
FOREIGN_LIFE_MAX_MS: Final = 90 * 86_400_000
# An ID token says JWT, or nothing; its audience is a client and not us.
_FOREIGN_TYPES: Final = ("at+jwt", "jwt", None)


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that was good, and what must still be so for it to remain good."""

    principal: Principal
    until_ms: int
    issuer: str
    kid: str
    subject: str
    token_id: str
    issued_ms: int
    session: str


class TokenService:
    """Threads  Event loop only; nothing but `keep_fresh` and `IssuerKeys.refresh` waits."""

    def __init__(
        self,
        settings: AuthSettings,
        signing: SigningKeys,
        sessions: SessionService,
        outbound: Outbound,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._signing = signing
        self._sessions = sessions
        self._clock = clock
        self._foreign: dict[str, tuple[IssuerSettings, IssuerKeys]] = {
            one.issuer: (one, IssuerKeys(one.issuer, one.jwks_uri, outbound))
            for one in settings.issuers
        }

    @property
    def epoch(self) -> int:
        """Grows whenever the keys of an issuer change."""
        if not self._foreign:
            # Asked for each request.
            return 0
        return sum(keys.epoch for _, keys in self._foreign.values())

    @property
    def issuers(self) -> list[IssuerKeys]:
        return [keys for _, keys in self._foreign.values()]

    def verify(self, text: str) -> VerifiedToken:
        """Whose token this is.

        `TokenRefusedError` when it is not good, `KeysNeededError` when its issuer must be asked
        first, `PermissionDeniedError` when it is good and worth nothing here.
        """
        token = read_unverified(text)
        if token.issuer == self._settings.token_issuer:
            key = self._signing.find(token.kid)
            if key is None:
                raise TokenRefusedError("its key is not known here")
            claims = verify(
                token,
                key,
                issuer=self._settings.token_issuer,
                audience=self._settings.token_audience,
                types=(ACCESS_TOKEN,),
                # Another gateway may have made it, whose clock runs ahead; none lives longer for it.
                leeway_seconds=0,
            )
            return self._own(claims, key)
        found = self._foreign.get(token.issuer)
        if found is None:
            raise TokenRefusedError("its issuer is not known here")
        settings, keys = found
        key = keys.find(token)
        claims = verify(
            token, key, issuer=settings.issuer, audience=settings.audience, types=_FOREIGN_TYPES
        )
        return self._of_foreign(settings, claims, key)

    def renewed(self, token: VerifiedToken) -> VerifiedToken | None:
        """The token as it stands after something in the store changed; None when it is over.

        Cheap: no signature is looked at again.
        """
        if token.session:
            if self._signing.find(token.kid) is None:
                return None
            principal = self._sessions.principal_of(token.session)
            if principal is None:
                return None
            until_ms = _earlier(token.until_ms, principal.expires_ms)
            principal = replace(principal, expires_ms=until_ms)
            return replace(token, principal=principal, until_ms=until_ms)
        _, keys = self._foreign[token.issuer]
        if not keys.has(token.kid or None) or self._is_revoked(token):
            return None
        return token

    def _own(self, claims: dict[str, Any], key: VerificationKey) -> VerifiedToken:
        session = claims.get("sid")
        principal = self._sessions.principal_of(session) if isinstance(session, str) else None
        if principal is None or claims["sub"] != f"{principal.kind}:{principal.id}":
            # Who has such a token was let in once, and has guessed nothing.
            raise TokenRefusedError("its session is over", was_good=True)
        until_ms = _earlier(int(claims["exp"] * 1000), principal.expires_ms)
        return VerifiedToken(
            replace(principal, expires_ms=until_ms),
            until_ms,
            claims["iss"],
            key.kid,
            claims["sub"],
            claims.get("jti", ""),
            int(claims["iat"] * 1000),
            principal.session,
        )

    def _of_foreign(
        self, settings: IssuerSettings, claims: dict[str, Any], key: VerificationKey
    ) -> VerifiedToken:
        until_ms = int((claims["exp"] + LEEWAY_SECONDS) * 1000)
        if until_ms > self._clock() + FOREIGN_LIFE_MAX_MS:
            raise TokenRefusedError("it lives longer than 90 days")
        principal = principal_from(settings, settings.issuer, claims, until_ms)
        token = VerifiedToken(
            principal,
            until_ms,
            settings.issuer,
            key.kid,
            claims["sub"],
            claims.get("jti", ""),
            int(claims["iat"] * 1000),
            "",
        )
        if self._is_revoked(token):
            raise TokenRefusedError("it was revoked", was_good=True)
        return token

    def _is_revoked(self, token: VerifiedToken) -> bool:
        return self._sessions.is_revoked(
            token.issuer, token.subject, token.token_id, token.issued_ms
        )


def _earlier(one_ms: int, other_ms: int | None) -> int:
    return one_ms if other_ms is None else min(one_ms, other_ms)
