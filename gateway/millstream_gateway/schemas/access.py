"""Who calls, what a call does, and to what: the three things that a decision is made of."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, NewType

from millstream.errors import InvalidArgumentError

# What the store knows a tenant by. Names never reach it: they come from clients.
TenantId = NewType("TenantId", int)

DEFAULT_TENANT: Final = "default"
DEFAULT_TENANT_ID: Final = TenantId(0)
# In place of a list of tenants: every tenant there is and will be.
EVERY_TENANT: Final = "*"
TENANT_HEADER: Final = "X-Scope-OrgID"
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


@dataclass(frozen=True, slots=True)
class Resource:
    """What an action is done to. Without tenants it is the server itself."""

    tenants: frozenset[str] = frozenset()
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether, and when not, why."""

    allowed: bool
    reason: str = ""


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
