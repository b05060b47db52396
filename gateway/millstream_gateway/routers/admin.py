"""Keys and tenants, for administrators."""

from __future__ import annotations

from fastapi import APIRouter, Response

from millstream.times import parse_duration_ms
from millstream_gateway.dependencies import ADMINISTERS, CallerDep, ServicesDep, needs
from millstream_gateway.routers.documentation import problems
from millstream_gateway.schemas.admin import (
    IssuedKey,
    KeyDescription,
    KeyList,
    NewKey,
    NewTenant,
    Rotation,
    TenantDescription,
    TenantList,
)
from millstream_gateway.schemas.keys import KeyRecord, KeyRequest
from millstream_gateway.services.container import Services
from millstream_gateway.services.tenants import Tenant

router = APIRouter(prefix="/v1/admin", tags=["admin"], responses=problems(401, 403, 429))


@router.post("/keys", status_code=201, responses=problems(400))
@needs(ADMINISTERS)
async def create_key(
    new: NewKey, response: Response, services: ServicesDep, caller: CallerDep
) -> IssuedKey:
    """Make a key. This answer is the only place where it is ever shown."""
    request = KeyRequest(
        name=new.name,
        role=new.role,
        tenants=frozenset(new.tenants),
        verbs=frozenset(new.verbs),
        topics=tuple(new.topics),
        expires_in_ms=None if new.expires is None else parse_duration_ms(new.expires),
    )
    keys = services.access.keys
    record, key = await services.control.run(lambda: keys.create(caller, request))
    return _issued(services, record, key, response)


@router.get("/keys")
@needs(ADMINISTERS)
async def list_keys(services: ServicesDep, caller: CallerDep) -> KeyList:
    """The keys of your tenants, also those that have ended."""
    found = await services.control.run(lambda: services.access.keys.list(caller))
    return KeyList(keys=[_described(services, key) for key in found])


@router.get("/keys/{key_id}", responses=problems(404))
@needs(ADMINISTERS)
async def get_key(key_id: str, services: ServicesDep, caller: CallerDep) -> KeyDescription:
    """One key."""
    found = await services.control.run(lambda: services.access.keys.get(caller, key_id))
    return _described(services, found)


@router.delete("/keys/{key_id}", responses=problems(404))
@needs(ADMINISTERS)
async def revoke_key(key_id: str, services: ServicesDep, caller: CallerDep) -> KeyDescription:
    """Revoke a key, at once and for good. Its record stays."""
    ended = await services.control.run(lambda: services.access.keys.revoke(caller, key_id))
    return _described(services, ended)


@router.post("/keys/{key_id}/rotate", responses=problems(400, 404))
@needs(ADMINISTERS)
async def rotate_key(
    key_id: str,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    rotation: Rotation | None = None,
) -> IssuedKey:
    """Give a key a new secret; the one before stays good for the overlap."""
    overlap_ms = parse_duration_ms((rotation or Rotation()).overlap)
    keys = services.access.keys
    record, key = await services.control.run(lambda: keys.rotate(caller, key_id, overlap_ms))
    return _issued(services, record, key, response)


@router.post("/tenants", status_code=201, responses=problems(400, 409))
@needs(ADMINISTERS)
async def create_tenant(
    new: NewTenant, services: ServicesDep, caller: CallerDep
) -> TenantDescription:
    """Make a tenant. Only who has every tenant may."""
    tenants = services.access.tenants
    return _tenant(await services.control.run(lambda: tenants.create(caller, new.name)))


@router.get("/tenants")
@needs(ADMINISTERS)
async def list_tenants(services: ServicesDep, caller: CallerDep) -> TenantList:
    """Your tenants."""
    found = await services.control.run(lambda: services.access.tenants.list(caller))
    return TenantList(tenants=[_tenant(one) for one in found])


def _described(services: Services, key: KeyRecord) -> KeyDescription:
    return KeyDescription.model_validate(services.access.keys.describe(key))


def _issued(services: Services, record: KeyRecord, key: str, response: Response) -> IssuedKey:
    response.headers["Cache-Control"] = "no-store"
    return IssuedKey.model_validate({**services.access.keys.describe(record), "key": key})


def _tenant(tenant: Tenant) -> TenantDescription:
    return TenantDescription(name=tenant.name, id=tenant.id, created_ms=tenant.created_ms)
