"""Limits of one tenant, changed while the server runs: kept in the meta store, good at once.

What is stored here comes before `tenants.NAME.limits` of the configuration, and that before
everybody's. Who has every tenant may change them; an administrator of some tenants sees theirs, and
cannot raise what somebody else has set for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from millstream.errors import InvalidArgumentError, NotFoundError
from millstream_gateway.backends.meta_store import Kind, MetaStore, retried
from millstream_gateway.schemas.access import EVERY_TENANT, Action, Caller, Resource
from millstream_gateway.schemas.limits import SeriesLimits
from millstream_gateway.services.audit import AuditLog
from millstream_gateway.services.authorization import require
from millstream_gateway.services.limits import Limiter
from millstream_gateway.services.tenants import TenantService
from millstream_gateway.settings import Settings, TenantLimits


@dataclass(frozen=True, slots=True)
class LimitsOfTenant:
    """What holds for a tenant, where it comes from, and what is used of the quotas."""

    tenant: str
    tenant_id: int
    stored: Mapping[str, int]
    configured: Mapping[str, int]
    effective: Mapping[str, int]


class TenantLimitsService:
    """Threads  Any; `put` and `delete` block."""

    def __init__(
        self,
        settings: Settings,
        store: MetaStore,
        tenants: TenantService,
        limiter: Limiter,
        audit: AuditLog,
    ) -> None:
        self._settings = settings
        self._store = store
        self._tenants = tenants
        self._limiter = limiter
        self._audit = audit
        limits = settings.limits
        self._everybodys = SeriesLimits(limits.max_series, limits.new_series_per_second)
        # By number, for the tenants that have one of their own; made anew after a change.
        self._series: tuple[int, dict[int, SeriesLimits]] = (-1, {})

    def series_limits(self, tenant: int) -> SeriesLimits:
        """What holds for new series of a tenant, by its number. Cheap."""
        revision, own = self._series
        snapshot = self._store.snapshot()
        if revision != snapshot.revision:
            names = self._settings.tenants.keys() | snapshot.of_kind(Kind.LIMITS).keys()
            own = {
                number: SeriesLimits(
                    self._limiter.value_of(name, "max_series"),
                    self._limiter.value_of(name, "new_series_per_second"),
                )
                for name in names
                if (number := self._tenants.id_of(name)) is not None
            }
            self._series = (snapshot.revision, own)
        return own.get(tenant, self._everybodys)

    def list(self, caller: Caller) -> list[LimitsOfTenant]:
        """Those of the caller's tenants, by name."""
        return [self._of(one.name, one.id) for one in self._tenants.list(caller)]

    def get(self, caller: Caller, tenant: str) -> LimitsOfTenant:
        for one in self._tenants.list(caller):
            if one.name == tenant:
                return self._of(one.name, one.id)
        raise NotFoundError("there is no such tenant")

    def put(self, caller: Caller, tenant: str, limits: Mapping[str, Any]) -> LimitsOfTenant:
        """Set exactly these limits for a tenant, which is made when it is missing."""
        require(caller.principal, Action.ADMIN, Resource(frozenset({EVERY_TENANT})))
        try:
            checked = TenantLimits.model_validate(dict(limits))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            unknown = first["type"] == "extra_forbidden"
            what = "there is no such limit" if unknown else first["msg"]
            raise InvalidArgumentError(f"{where}: {what}") from None
        value = checked.model_dump(exclude_none=True)
        self._tenants.ensure(caller, tenant)
        self._store.commit({(Kind.LIMITS, tenant): value})
        self._audit.record(caller, "limits.put", "ok", tenant=tenant, **value)
        return self.get(caller, tenant)

    def delete(self, caller: Caller, tenant: str) -> LimitsOfTenant:
        """Back to what the configuration says."""
        require(caller.principal, Action.ADMIN, Resource(frozenset({EVERY_TENANT})))
        self.get(caller, tenant)
        at = (Kind.LIMITS, tenant)

        def attempt() -> LimitsOfTenant:
            snapshot = self._store.snapshot()
            if snapshot.get(*at) is None:
                return self.get(caller, tenant)
            self._store.commit({}, [at], expect={at: snapshot.version(*at)})
            self._audit.record(caller, "limits.delete", "ok", tenant=tenant)
            return self.get(caller, tenant)

        return retried(attempt, f"the limits of {tenant} are being changed by others; try again")

    def _of(self, tenant: str, tenant_id: int) -> LimitsOfTenant:
        record = self._store.snapshot().get(Kind.LIMITS, tenant)
        configured = self._settings.tenants.get(tenant)
        return LimitsOfTenant(
            tenant=tenant,
            tenant_id=tenant_id,
            stored={} if record is None else dict(record.value),
            configured={}
            if configured is None
            else configured.limits.model_dump(exclude_none=True),
            effective={
                name: self._limiter.value_of(tenant, name) for name in TenantLimits.model_fields
            },
        )
