"""Limits of tenants, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from millstream_gateway.dependencies import ADMINISTERS, CallerDep, ServicesDep, needs
from millstream_gateway.routers.documentation import problems
from millstream_gateway.routers.media import JsonBodyRoute
from millstream_gateway.schemas.admin import AllLimits, LimitsDescription
from millstream_gateway.services.container import Services
from millstream_gateway.services.tenant_limits import LimitsOfTenant

router = APIRouter(
    prefix="/v1/admin", tags=["admin"], responses=problems(401, 403, 429), route_class=JsonBodyRoute
)

_Limits = Annotated[
    dict[str, int],
    Body(
        max_length=64,
        description="Limits by their names; the rest is as for everybody. 0 is no limit.",
        examples=[{"requests_per_second": 2000, "samples_per_day": 1000000000}],
    ),
]


@router.get("/limits")
@needs(ADMINISTERS)
async def list_limits(services: ServicesDep, caller: CallerDep) -> AllLimits:
    """What holds for each of your tenants."""
    limits = services.access.tenant_limits
    found = await services.control.run(lambda: limits.list(caller))
    return AllLimits(tenants=[await _described(services, one) for one in found])


@router.get("/limits/{tenant}", responses=problems(404))
@needs(ADMINISTERS)
async def get_limits(tenant: str, services: ServicesDep, caller: CallerDep) -> LimitsDescription:
    """What holds for a tenant, and what it has used of its quotas."""
    limits = services.access.tenant_limits
    found = await services.control.run(lambda: limits.get(caller, tenant))
    return await _described(services, found)


@router.put("/limits/{tenant}", responses=problems(400))
@needs(ADMINISTERS)
async def put_limits(
    tenant: str, new: _Limits, services: ServicesDep, caller: CallerDep
) -> LimitsDescription:
    """Give a tenant limits of its own, good at once. Only who has every tenant may."""
    limits = services.access.tenant_limits
    found = await services.control.run(lambda: limits.put(caller, tenant, new))
    return await _described(services, found)


@router.delete("/limits/{tenant}", responses=problems(404))
@needs(ADMINISTERS)
async def delete_limits(tenant: str, services: ServicesDep, caller: CallerDep) -> LimitsDescription:
    """Back to what the configuration says. Only who has every tenant may."""
    limits = services.access.tenant_limits
    found = await services.control.run(lambda: limits.delete(caller, tenant))
    return await _described(services, found)


async def _described(services: Services, found: LimitsOfTenant) -> LimitsDescription:
    return LimitsDescription(
        tenant=found.tenant,
        stored=dict(found.stored),
        configured=dict(found.configured),
        effective=dict(found.effective),
        used=await services.access.limits.used(found.tenant_id),
    )
