"""Tenants: names for people, numbers for the store.

A number is given once and never again, so what belongs to a tenant cannot come to belong to
another that is called the same. The default tenant has number 0 and is always there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from millstream.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from millstream_gateway.backends.meta_store import ABSENT, Kind, MetaStore, Snapshot, retried
from millstream_gateway.schemas.access import (
    DEFAULT_TENANT,
    DEFAULT_TENANT_ID,
    EVERY_TENANT,
    TENANT_HEADER,
    Action,
    Caller,
    Principal,
    Resource,
    TenantId,
    check_tenant_name,
)
from millstream_gateway.services.audit import AuditLog
from millstream_gateway.services.authorization import require

NAMED_MAX: Final = 16
_HEADER_BYTES_MAX: Final = 4096
_COUNTER: Final = (Kind.COUNTER, "tenant")


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant. The default tenant was never made: its time is 0."""

    name: str
    id: TenantId
    created_ms: int


class TenantService:
    """Looks tenants up and makes them. Threads: any."""

    def __init__(self, store: MetaStore, audit: AuditLog, tenants_max: int) -> None:
        self._store = store
        self._audit = audit
        self._max = tenants_max

    def id_of(self, name: str) -> TenantId | None:
        """None when there is no such tenant."""
        if name == DEFAULT_TENANT:
            return DEFAULT_TENANT_ID
        record = self._store.snapshot().get(Kind.TENANT, name)
        return None if record is None else TenantId(record.value["id"])

    def list(self, caller: Caller) -> list[Tenant]:
        """Those that the caller belongs to, by name."""
        found = [Tenant(DEFAULT_TENANT, DEFAULT_TENANT_ID, 0)]
        for name, record in self._store.snapshot().of_kind(Kind.TENANT).items():
            found.append(Tenant(name, TenantId(record.value["id"]), record.value["created_ms"]))
        mine = caller.principal
        visible = [one for one in found if mine.has_every_tenant or one.name in mine.tenants]
        return sorted(visible, key=lambda one: one.name)

    def create(self, caller: Caller, name: str) -> Tenant:
        """Make a tenant. Blocks."""
        require(caller.principal, Action.ADMIN, Resource(frozenset({EVERY_TENANT})))
        if self.id_of(check_tenant_name(name)) is not None:
            raise AlreadyExistsError(f"the tenant {name} is there already")
        return self.ensure(caller, name)

    def ensure(self, caller: Caller, name: str) -> Tenant:
        """The tenant of that name, made when it is missing. Blocks.

        Whoever has every tenant may make one: by writing to it, or by giving a key for it.
        """
        check_tenant_name(name)

        def attempt() -> Tenant:
            snapshot = self._store.snapshot()
            if name == DEFAULT_TENANT:
                return Tenant(name, DEFAULT_TENANT_ID, 0)
            record = snapshot.get(Kind.TENANT, name)
            if record is not None:
                return Tenant(name, TenantId(record.value["id"]), record.value["created_ms"])
            if not caller.principal.has_every_tenant:
                raise PermissionDeniedError(f"{caller.principal.name} may not make tenants")
            return self._make(caller, snapshot, name)

        words = f"the tenant {name} could not be made: too many others are being made"
        return retried(attempt, words)

    def _make(self, caller: Caller, snapshot: Snapshot, name: str) -> Tenant:
        if len(snapshot.of_kind(Kind.TENANT)) >= self._max:
            raise ResourceExhaustedError(
                f"there are limits.tenants ({self._max}) tenants; raise it to make more"
            )
        counter = snapshot.get(*_COUNTER)
        number = TenantId(DEFAULT_TENANT_ID + 1 if counter is None else counter.value["next"])
        now_ms = time.time_ns() // 1_000_000
        key = (Kind.TENANT, name)
        self._store.commit(
            {key: {"id": number, "created_ms": now_ms}, _COUNTER: {"next": number + 1}},
            expect={key: ABSENT, _COUNTER: snapshot.version(*_COUNTER)},
        )
        self._audit.record(caller, "tenant.create", "ok", tenant=name, tenant_id=number)
        return Tenant(name, number, now_ms)


def requested_tenants(headers: list[bytes], principal: Principal) -> frozenset[str]:
    """The tenants that a request names in its headers, or the one that goes without saying.

    Only the form is checked here; whether the caller belongs to them is for `decide`.
    """
    if not headers:
        if principal.has_every_tenant:
            return frozenset({DEFAULT_TENANT})
        if len(principal.tenants) != 1:
            raise InvalidArgumentError(
                f"{principal.name} belongs to several tenants; say which in {TENANT_HEADER}"
            )
        return principal.tenants
    if len(headers) > 1:
        raise InvalidArgumentError(f"{TENANT_HEADER} is there more than once")
    if len(headers[0]) > _HEADER_BYTES_MAX:
        raise InvalidArgumentError(f"{TENANT_HEADER} is longer than {_HEADER_BYTES_MAX} bytes")
    names = frozenset(map(check_tenant_name, headers[0].decode("latin-1").split("|")))
    if len(names) > NAMED_MAX:
        raise InvalidArgumentError(f"{TENANT_HEADER} names more than {NAMED_MAX} tenants")
    return names
