"""What an administrator may give to a key or a user: never more than they have."""

from __future__ import annotations

from typing import Final

from millstream.errors import InvalidArgumentError, PermissionDeniedError
from millstream_gateway.schemas.access import (
    EVERY_TENANT,
    ROLE_DEFAULT_VERBS,
    ROLE_VERBS,
    Action,
    Principal,
    Resource,
    Role,
    check_tenant_name,
)
from millstream_gateway.services.authorization import covers, require

LISTED_MAX: Final = 64


def granted_verbs(
    role: Role, tenants: frozenset[str], verbs: frozenset[Action]
) -> frozenset[Action]:
    """What a role in these tenants may do when ``verbs`` are asked for; none are those of the role.

    `InvalidArgumentError` when that makes no sense.
    """
    if not tenants or len(tenants) > LISTED_MAX:
        raise InvalidArgumentError(f"1 to {LISTED_MAX} tenants are needed")
    if EVERY_TENANT in tenants and len(tenants) > 1:
        raise InvalidArgumentError("every tenant (*) leaves none to name beside it")
    for tenant in tenants - {EVERY_TENANT}:
        check_tenant_name(tenant)
    found = verbs or ROLE_DEFAULT_VERBS[role]
    if not verbs and role is Role.ADMIN and EVERY_TENANT in tenants:
        found = ROLE_VERBS[role]
    beyond = found - ROLE_VERBS[role]
    if beyond:
        raise InvalidArgumentError(
            f"the role {role.value} cannot be given: {', '.join(sorted(beyond))}"
        )
    return found


def may_give(giver: Principal, tenants: frozenset[str], verbs: frozenset[Action]) -> None:
    """`PermissionDeniedError` when somebody gives what they have not."""
    require(giver, Action.ADMIN, Resource())
    if not covers(giver, tenants):
        raise PermissionDeniedError(f"{giver.name} does not belong to all of these tenants")
    if not verbs <= giver.verbs:
        missing = ", ".join(sorted(verbs - giver.verbs))
        raise PermissionDeniedError(f"{giver.name} cannot give: {missing}")
