"""What the claims of somebody else's token are worth here: a role and tenants.

Nothing is given that the configuration does not name, and a claim of a type that makes no sense is
refused: an empty list, a number or an object in place of a tenant's name must not fall back to a
default that is wider.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from millstream.errors import InvalidArgumentError, PermissionDeniedError
from millstream_gateway.schemas.access import (
    DEFAULT_TENANT,
    EVERY_TENANT,
    ROLE_DEFAULT_VERBS,
    ROLE_VERBS,
    Principal,
    Role,
    check_tenant_name,
)
from millstream_gateway.services.token_format import TokenRefusedError
from millstream_gateway.settings import ClaimsSettings

USER: Final = "user"
_VALUES_MAX: Final = 200
_TENANTS_MAX: Final = 64
_NAME_MAX: Final = 200
_BY_POWER: Final = (Role.ADMIN, Role.USER, Role.READONLY)
_ABSENT: Final = object()


def principal_from(
    settings: ClaimsSettings, issuer: str, claims: Mapping[str, Any], expires_ms: int | None = None
) -> Principal:
    """Who this is.

    `PermissionDeniedError` when the configuration gives them no role or no tenant, and
    `TokenRefusedError` when a claim makes no sense.
    """
    role = _role(settings, claims)
    tenants = _tenants(settings, claims)
    verbs = ROLE_DEFAULT_VERBS[role]
    if role is Role.ADMIN and EVERY_TENANT in tenants:
        verbs = ROLE_VERBS[role]
    return Principal(
        kind=USER,
        id=f"{issuer}#{claims['sub']}",
        name=display_name(claims),
        role=role,
        verbs=verbs,
        tenants=tenants,
        expires_ms=expires_ms,
    )


def display_name(claims: Mapping[str, Any]) -> str:
    """What to call somebody. Only for people to read: it proves nothing."""
    for name in ("preferred_username", "login", "email", "name", "sub"):
        value = claims.get(name)
        if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _NAME_MAX:
            return value
    return "somebody"


def _role(settings: ClaimsSettings, claims: Mapping[str, Any]) -> Role:
    found: set[Role] = set()
    if settings.role_claim:
        for value in _texts(settings.role_claim, claims) or ():
            if settings.roles:
                given = settings.roles.get(value)
            else:
                given = Role(value) if value in set(Role) else None
            if given is not None:
                found.add(given)
    for role in _BY_POWER:
        if role in found:
            return role
    if settings.default_role is not None:
        return settings.default_role
    raise PermissionDeniedError(
        f"{display_name(claims)} is known but has no role here: an administrator gives one by "
        "role_claim, roles or default_role in the settings of the issuer"
    )


def _tenants(settings: ClaimsSettings, claims: Mapping[str, Any]) -> frozenset[str]:
    if settings.tenant_claim:
        named = _texts(settings.tenant_claim, claims)
        if named is not None:
            if not named or len(named) > _TENANTS_MAX:
                raise TokenRefusedError("its tenants are none, or too many")
            try:
                return frozenset(map(check_tenant_name, named))
            except InvalidArgumentError:
                raise TokenRefusedError("it names a tenant that cannot be one") from None
        if not settings.tenants:
            raise PermissionDeniedError(
                f"{display_name(claims)} is known but has no tenant here: the claim of "
                "tenant_claim is missing"
            )
    return frozenset(settings.tenants or (DEFAULT_TENANT,))


def _texts(name: str, claims: Mapping[str, Any]) -> list[str] | None:
    """The values of a claim, which is a text or a list of texts; None when it is not there.

    A name that is no claim may be a path, such as ``realm_access.roles``. An e-mail address that
    its issuer has not checked is no claim at all: anybody could choose it.
    """
    if name == "email" and claims.get("email_verified") is not True:
        return None
    value = claims.get(name, _ABSENT)
    if value is _ABSENT and "." in name:
        value = claims
        for part in name.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    if value is _ABSENT:
        return None
    values = value if isinstance(value, list) else [value]
    if len(values) > _VALUES_MAX or not all(isinstance(one, str) for one in values):
        raise TokenRefusedError("a claim that is looked at is of a type that makes no sense")
    return values
