"""The one place that decides who may do what. What is not allowed here is refused.

Everything that needs permission asks `decide`: the guard in front of every route, and the services
behind the routes for what only they know, such as the tenants of a key that is to be revoked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from millstream.errors import PermissionDeniedError
from millstream_gateway.schemas.access import (
    AUDIT_TOPIC,
    EVERY_TENANT,
    ROLE_VERBS,
    VERBS,
    Acl,
    Action,
    Decision,
    Kind,
    Principal,
    Resource,
)

_ALLOWED: Final = Decision(allowed=True)
_WORDS: Final = {
    Action.READ: "read data",
    Action.WRITE: "write data",
    Action.MONITOR: "see the server's own metrics, which count every tenant",
    Action.ADMIN: "administer keys and tenants",
}
_PATTERNS_CACHED: Final = 1024


def decide(
    principal: Principal | None, action: Action, resource: Resource, acls: Sequence[Acl] = ()
) -> Decision:
    """May this caller do this to that? Nobody (None) may do what is public.

    ``acls`` are all lines of the access lists. Those that are about this caller, action and tenant
    can only take away: where one allows, nothing but what is allowed stays, and what one denies is
    gone whatever allows it.
    """
    if action is Action.PUBLIC:
        return _ALLOWED
    if principal is None:
        return Decision(False, "nobody is signed in")
    if action is Action.IDENTIFY:
        return _ALLOWED
    if action not in VERBS or action not in principal.verbs:
        return Decision(False, f"{principal.name} may not {_WORDS.get(action, action.value)}")
    if action not in ROLE_VERBS[principal.role]:
        return Decision(
            False, f"the role {principal.role.value} may not {_WORDS.get(action, action.value)}"
        )
    if not principal.has_every_tenant and not resource.tenants <= principal.tenants:
        if EVERY_TENANT in resource.tenants:
            return Decision(False, f"{principal.name} does not have every tenant, as this needs")
        # The same words whether the tenant exists or not.
        return Decision(False, f"{principal.name} does not belong to this tenant")
    if resource.topic == AUDIT_TOPIC:
        if action is not Action.READ:
            return Decision(False, "only the server writes the audit log, and nobody changes it")
        if not (principal.has_every_tenant and Action.ADMIN in principal.verbs):
            return Decision(False, "the audit log is for administrators of every tenant")
    if resource.topic is not None and not _any_matches(principal.topics, resource.topic):
        return Decision(False, f"this topic is not one that {principal.name} may {action.value}")
    return _by_acls(principal, action, resource, acls) if acls else _ALLOWED


def _by_acls(
    principal: Principal, action: Action, resource: Resource, acls: Sequence[Acl]
) -> Decision:
    metrics = {}
    for tenant in resource.tenants:
        mine = [acl for acl in acls if acl.is_about(principal, action, tenant)]
        for kind, name in ((Kind.TOPIC, resource.topic), (Kind.TABLE, resource.table)):
            allow, deny = _patterns(mine, kind)
            if name is not None and (
                _any_matches(deny, name) or (allow and not _any_matches(allow, name))
            ):
                words = f"access lists do not let {principal.name} {action.value} this {kind}"
                return Decision(False, words)
        selectors = _patterns(mine, Kind.METRIC)
        if any(selectors):
            metrics[tenant] = selectors
    return Decision(True, metrics=metrics) if metrics else _ALLOWED


def _patterns(acls: list[Acl], kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that allow, and those that deny."""
    mine = [acl for acl in acls if acl.kind is kind]
    return (
        tuple(acl.pattern for acl in mine if acl.allows),
        tuple(acl.pattern for acl in mine if not acl.allows),
    )


def require(principal: Principal | None, action: Action, resource: Resource) -> None:
    """Raise `PermissionDeniedError` when the decision is no."""
    decision = decide(principal, action, resource)
    if not decision.allowed:
        raise PermissionDeniedError(decision.reason)


def covers(principal: Principal, tenants: frozenset[str]) -> bool:
    """Whether all of these tenants are the caller's; "every tenant" only is when it has them all."""
    if principal.has_every_tenant:
        return True
    return EVERY_TENANT not in tenants and tenants <= principal.tenants


def _any_matches(patterns: tuple[str, ...], topic: str) -> bool:
    return any(_compiled(pattern).fullmatch(topic) for pattern in patterns)


@lru_cache(_PATTERNS_CACHED)
def _compiled(pattern: str) -> re.Pattern[str]:
    # A star and nothing else is special, so the expression cannot be made slow.
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))), re.DOTALL)
