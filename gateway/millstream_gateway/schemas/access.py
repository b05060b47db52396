"""Who calls, what a call does, and to what: the three things that a decision is made of."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from millstream.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class TenantScope:
    """One tenant, and what of it is meant: series selectors in PromQL's words.

    A series belongs to it that one of ``allow`` matches, or any when there is none, and none of
    ``deny``. ``name`` tells the tenants of one read apart.
    """

    tenant: int
    name: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.allow and not self.deny


class TenantId(int):
    """What the store knows a tenant by. Names never reach it: they come from clients.

    With ``scopes`` it stands for less than that tenant, or for several of them together. A route
    gets such a number only when it says that it can do something with it: see `Access.narrows`.
    """

    scopes: tuple[TenantScope, ...] = ()

    @classmethod
    def of(cls, scopes: tuple[TenantScope, ...]) -> TenantId:
        """The plain number when that is all there is to it."""
        number = cls(scopes[0].tenant)
        if len(scopes) > 1 or not scopes[0].is_whole:
            number.scopes = scopes
        return number


DEFAULT_TENANT: Final = "default"
DEFAULT_TENANT_ID: Final = TenantId(0)
# In place of a list of tenants: every tenant there is and will be.
EVERY_TENANT: Final = "*"
TENANT_HEADER: Final = "X-Scope-OrgID"
#: Of the tenant `DEFAULT_TENANT`: who did what.
AUDIT_TOPIC: Final = "__audit"
_TENANT_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,150}\Z", re.ASCII)


class Role(enum.StrEnum):
    """How much a caller may do at most."""

    ADMIN = "admin"
    USER = "user"
    READONLY = "readonly"


class Action(enum.StrEnum):
    """What a route does. Every route declares one."""

    # Asks for nothing and tells nothing that is anybody's: health, the page itself.
    PUBLIC = "public"
    # Tells callers about themselves.
    IDENTIFY = "identify"
    # The data of the tenant that the request names.
    READ = "read"
    WRITE = "write"
    # The server's own numbers, which count all tenants together.
    MONITOR = "monitor"
    # Keys and tenants.
    ADMIN = "admin"


# What a key can be allowed; everything else is allowed to nobody or to everybody.
VERBS: Final = frozenset({Action.READ, Action.WRITE, Action.MONITOR, Action.ADMIN})
# What a role can be given at most …
ROLE_VERBS: Final = {
    Role.ADMIN: VERBS,
    Role.USER: frozenset({Action.READ, Action.WRITE, Action.MONITOR}),
    Role.READONLY: frozenset({Action.READ, Action.MONITOR}),
}
# … and what it has when nobody says. The server's own numbers are about every tenant, so they are
# given by name, or to those whom every tenant belongs to.
ROLE_DEFAULT_VERBS: Final = {
    Role.ADMIN: frozenset({Action.READ, Action.WRITE, Action.ADMIN}),
    Role.USER: frozenset({Action.READ, Action.WRITE}),
    Role.READONLY: frozenset({Action.READ}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were checked.

    ``kind`` is anonymous, key, admin_key, user or local; ``id`` is unique within its kind.
    ``topics`` are patterns with ``*`` for any text. ``session`` is that of the token, if any.
    """

    kind: str
    id: str
    name: str
    role: Role
    verbs: frozenset[Action]
    tenants: frozenset[str]
    topics: tuple[str, ...] = ("*",)
    expires_ms: int | None = None
    session: str = ""

    @property
    def has_every_tenant(self) -> bool:
        return EVERY_TENANT in self.tenants


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


class Kind(enum.StrEnum):
    """What an access list is about."""

    METRIC = "metric"
    TOPIC = "topic"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Acl:
    """One line of the access lists: who may, or may not, do what to which data of a tenant.

    ``subject`` is ``kind:id`` of a principal, ``role:ROLE``, or ``*`` for everybody; ``tenant`` a
    name or ``*``. ``pattern`` is a series selector for metrics, and otherwise a name with ``*`` for
    any text.
    """

    id: str
    subject: str
    tenant: str
    kind: Kind
    pattern: str
    allows: bool
    verbs: frozenset[Action]
    created_ms: int = 0
    created_by: str = ""

    def is_about(self, principal: Principal, action: Action, tenant: str) -> bool:
        return (
            action in self.verbs
            and self.tenant in (EVERY_TENANT, tenant)
            and self.subject
            in ("*", f"role:{principal.role.value}", f"{principal.kind}:{principal.id}")
        )


@dataclass(frozen=True, slots=True)
class Resource:
    """What an action is done to. Without tenants it is the server itself."""

    tenants: frozenset[str] = frozenset()
    topic: str | None = None
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether, and when not, why.

    A yes may be about a part of the data only: ``metrics`` has, for each tenant of which not every
    series is meant, the selectors that allow and those that deny.
    """

    allowed: bool
    reason: str = ""
    metrics: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes this request, from where, and for which tenant."""

    principal: Principal
    tenant: TenantId = DEFAULT_TENANT_ID
    tenant_name: str = DEFAULT_TENANT
    client: str = ""


def check_tenant_name(name: str) -> str:
    """The name itself; `InvalidArgumentError` when no tenant can be called so."""
    if not _TENANT_NAME.match(name) or name in (".", ".."):
        raise InvalidArgumentError(
            f"{name[:150]!r} is not a tenant: 1 to 150 letters, digits and _.- are, save . and .."
        )
    return name
