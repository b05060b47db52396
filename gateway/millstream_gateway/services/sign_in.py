"""Signing people in by somebody else's word: OAuth 2.0 code flow with PKCE, OpenID Connect.

What belongs to one sign-in (state, nonce, verifier, where to go afterwards) travels in a locked
cookie, so any gateway can finish what another has begun, and nobody can fill a memory with
beginnings. The cookie ties the answer to the browser that asked, the nonce ties the ID token to it.

Source  RFC 6749, 7636, 9207, 9700; OpenID Connect Core 1.0, 3.1
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import orjson
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from millstream.errors import (
    InvalidArgumentError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from millstream_gateway.backends.outbound import HEADERS, TIMEOUT_SECONDS, Outbound, host_of
from millstream_gateway.schemas.access import Principal
from millstream_gateway.services.claims import principal_from
from millstream_gateway.services.issuers import (
    IssuerKeys,
    KeysNeededError,
    discover,
    endpoint_of,
)
from millstream_gateway.services.secret_box import SecretBox, WrongKeyError
from millstream_gateway.services.token_format import TokenRefusedError, read_unverified, verify
from millstream_gateway.settings import AuthSettings, ProviderSettings

GITHUB: Final = "github"
FLOW_SECONDS: Final = 600
_DEFAULT_ISSUERS: Final = {GITHUB: "https://github.com", "google": "https://accounts.google.com"}
_GITHUB_API: Final = "https://api.github.com"
_GITHUB_SCOPES: Final = ("read:user", "read:org")
_OIDC_SCOPES: Final = ("openid", "profile", "email")
_METADATA_SECONDS: Final = 3600.0
_TEXT_MAX: Final = 4096
_RETURN_MAX: Final = 2000
_ID_TOKEN_TYPES: Final = ("jwt", None)
_BASIC: Final = "client_secret_basic"
_POST: Final = "client_secret_post"


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-in under way."""

    provider: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    return_to: str
    until: int


@dataclass(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    userinfo: str
    method: str


class _Provider:
    """One that is configured. Threads: event loop only."""

    def __init__(self, name: str, settings: ProviderSettings, outbound: Outbound) -> None:
        self.name = name
        self.settings = settings
        self.issuer = settings.issuer or _DEFAULT_ISSUERS[name]
        self.keys = IssuerKeys(self.issuer, None, outbound)
        self._outbound = outbound
        self._endpoints: _Endpoints | None = None
        self._until = 0.0
        self._asking = asyncio.Lock()

    @property
    def is_oidc(self) -> bool:
        return self.name != GITHUB

    async def endpoints(self) -> _Endpoints:
        async with self._asking:
            if self._endpoints is None or time.monotonic() >= self._until:
                self._endpoints = await self._find_endpoints()
                self._until = time.monotonic() + _METADATA_SECONDS
            return self._endpoints

    async def _find_endpoints(self) -> _Endpoints:
        if not self.is_oidc:
            base = self.issuer.removesuffix("/")
            api = (self.settings.api_url or _GITHUB_API).removesuffix("/")
            return _Endpoints(
                f"{base}/login/oauth/authorize", f"{base}/login/oauth/access_token", api, _POST
            )
        found = await discover(self.issuer, self._outbound)
        methods = found.get("token_endpoint_auth_methods_supported")
        by_post = isinstance(methods, list) and _BASIC not in methods and _POST in methods
        has_userinfo = found.get("userinfo_endpoint") is not None
        return _Endpoints(
            endpoint_of(found, "authorization_endpoint", self.issuer, self._outbound),
            endpoint_of(found, "token_endpoint", self.issuer, self._outbound),
            endpoint_of(found, "userinfo_endpoint", self.issuer, self._outbound)
            if has_userinfo
            else "",
            _POST if by_post else _BASIC,
        )


class SignInService:
    """Threads  Event loop only."""

    def __init__(
        self,
        settings: AuthSettings,
        outbound: Outbound,
        box: SecretBox,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbound = outbound
        self._box = box
        self._clock = clock
        self._providers = {
            name: _Provider(name, one, outbound) for name, one in settings.providers.named().items()
        }

    @property
    def names(self) -> list[str]:
        return sorted(self._providers)

    @property
    def issuers(self) -> frozenset[str]:
        return frozenset(one.issuer for one in self._providers.values())

    async def begin(self, name: str, redirect_uri: str, return_to: str) -> tuple[str, str]:
        """Where to send the browser, and the cookie that it must bring back."""
        provider = self._provider(name)
        endpoints = await provider.endpoints()
        flow = Flow(
            provider=name,
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=redirect_uri,
            return_to=safe_return(return_to),
            until=int(self._clock()) + FLOW_SECONDS,
        )
        client = self._client(provider, endpoints, redirect_uri)
        more = {"nonce": flow.nonce} if provider.is_oidc else {}
        url, _ = client.create_authorization_url(
            endpoints.authorization, state=flow.state, code_verifier=flow.verifier, **more
        )
        locked = await asyncio.to_thread(self._box.lock, "sign-in", orjson.dumps(asdict(flow)))
        return url, base64.urlsafe_b64encode(locked).decode()

    async def finish(
        self, name: str, cookie: str, query: Mapping[str, str]
    ) -> tuple[Principal, str, Flow]:
        """Who signed in, by whose word, and the sign-in that this ends.

        `UnauthenticatedError` for everything that does not belong together, and
        `PermissionDeniedError` for somebody who is known and has no role here.
        """
        provider = self._provider(name)
        flow = await self._flow_of(name, cookie)
        if not hmac.compare_digest(query.get("state", "").encode(), flow.state.encode()):
            raise UnauthenticatedError("this answer belongs to another sign-in; begin again")
        if query.get("iss", provider.issuer) != provider.issuer:
            raise UnauthenticatedError("this answer comes from another provider; begin again")
        if "error" in query:
            # What a stranger may have put into the URL is not repeated.
            raise UnauthenticatedError(f"{name} did not sign you in")
        code = query.get("code", "")
        if not code or len(code) > _TEXT_MAX:
            raise UnauthenticatedError("the answer has no code; begin again")
        endpoints = await provider.endpoints()
        answer = await self._exchange(provider, endpoints, flow, code)
        if provider.is_oidc:
            claims = await self._claims_of(provider, endpoints, flow, answer)
        else:
            claims = await self._github_user(endpoints.userinfo, answer["access_token"])
        return (
            principal_from(provider.settings, provider.issuer, claims),
            provider.issuer,
            flow,
        )

    def _provider(self, name: str) -> _Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise NotFoundError("there is no such way to sign in")
        return provider

    def _client(
        self, provider: _Provider, endpoints: _Endpoints, redirect_uri: str
    ) -> AsyncOAuth2Client:
        defaults = _OIDC_SCOPES if provider.is_oidc else _GITHUB_SCOPES
        return AsyncOAuth2Client(
            provider.settings.client_id,
            provider.settings.client_secret.get_secret_value(),
            token_endpoint_auth_method=endpoints.method,
            scope=" ".join(provider.settings.scopes or defaults),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            transport=self._outbound.transport,
            headers=HEADERS,
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    async def _flow_of(self, name: str, cookie: str) -> Flow:
        try:
            locked = base64.b64decode(cookie[:_TEXT_MAX], altchars=b"-_", validate=True)
            text = await asyncio.to_thread(self._box.unlock, "sign-in", locked)
            flow = Flow(**orjson.loads(text))
        except (WrongKeyError, ValueError, TypeError):
            raise UnauthenticatedError("this browser has begun no sign-in; begin again") from None
        if flow.provider != name or self._clock() >= flow.until:
            raise UnauthenticatedError("this sign-in took too long; begin again")
        return flow

    async def _exchange(
        self, provider: _Provider, endpoints: _Endpoints, flow: Flow, code: str
    ) -> dict[str, Any]:
        client = self._client(provider, endpoints, flow.redirect_uri)
        try:
            answer = dict(
                await client.fetch_token(
                    endpoints.token,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=flow.verifier,
                )
            )
        except httpx2.HTTPStatusError:
            raise UnavailableError(f"{host_of(endpoints.token)} is not well") from None
        except httpx2.HTTPError:
            raise UnavailableError(f"{host_of(endpoints.token)} cannot be asked") from None
        except (AuthlibBaseError, ValueError, TypeError, KeyError):
            raise UnauthenticatedError(f"{provider.name} does not stand by its answer") from None
        if not isinstance(answer.get("access_token"), str):
            raise UnauthenticatedError(f"{provider.name} does not stand by its answer")
        return answer

    async def _claims_of(
        self, provider: _Provider, endpoints: _Endpoints, flow: Flow, answer: dict[str, Any]
    ) -> dict[str, Any]:
        text = answer.get("id_token")
        if not isinstance(text, str):
            raise UnauthenticatedError(f"{provider.name} says not who you are")
        claims = await self._verified(provider, text)
        audience = claims["aud"]
        several = isinstance(audience, list) and len(audience) > 1
        party = claims.get("azp", None if several else provider.settings.client_id)
        if party != provider.settings.client_id:
            raise TokenRefusedError("it is meant for somebody else")
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(
            nonce.encode("utf-8", "surrogatepass"), flow.nonce.encode()
        ):
            raise TokenRefusedError("it belongs to another sign-in")
        if endpoints.userinfo and not self._has_all(provider.settings, claims):
            # Many providers tell more there than in the token.
            more = await self._outbound.get_json(endpoints.userinfo, token=answer["access_token"])
            if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
                raise UnauthenticatedError(f"{provider.name} speaks of two people at once")
            claims = {**more, **claims}
        return claims

    async def _verified(self, provider: _Provider, text: str) -> dict[str, Any]:
        token = read_unverified(text)
        try:
            key = provider.keys.find(token)
        except KeysNeededError:
            await provider.keys.refresh(token)
            key = provider.keys.find(token)
        return verify(
            token,
            key,
            issuer=provider.issuer,
            audience=provider.settings.client_id,
            types=_ID_TOKEN_TYPES,
        )

    @staticmethod
    def _has_all(settings: ProviderSettings, claims: Mapping[str, Any]) -> bool:
        wanted = {settings.role_claim, settings.tenant_claim} - {""}
        wanted |= {"email_verified"} if "email" in wanted else set()
        named = {"preferred_username", "name", "email"} & set(claims)
        return bool(named) and wanted <= set(claims)

    async def _github_user(self, api: str, token: str) -> dict[str, Any]:
        """GitHub's own way of saying who somebody is, as claims: sub, login, name, orgs."""
        user = await self._outbound.get_json(f"{api}/user", token=token)
        if not isinstance(user, dict) or not isinstance(user.get("id"), int):
            raise UnauthenticatedError("github says not who you are")
        try:
            listed = await self._outbound.get_json(f"{api}/user/orgs", token=token)
        except UnavailableError:
            # Without the scope read:org this is refused; then nobody is in any.
            listed = []
        orgs = [
            one["login"]
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, dict) and isinstance(one.get("login"), str)
        ]
        return {
            "sub": str(user["id"]),
            "login": user.get("login"),
            "name": user.get("name"),
            "orgs": orgs,
        }


def safe_return(path: str) -> str:
    """A place on the page, and the page's beginning in place of anything else."""
    ours = path == "/" or path.startswith("/?")
    if not ours or len(path) > _RETURN_MAX or not path.isascii() or not path.isprintable():
        return "/"
    return "/" if "\\" in path or urlsplit(path).netloc else path


def check_host(text: str) -> str:
    """The Host header of a request to this machine; see `routers.sign_in`."""
    if not text or len(text) > 300 or set(text) - set(_HOST_LETTERS):
        raise InvalidArgumentError("the Host header is not one")
    return text


_HOST_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]"
