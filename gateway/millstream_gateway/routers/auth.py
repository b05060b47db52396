"""What the server knows about its caller."""

from __future__ import annotations

from fastapi import APIRouter

from millstream_gateway.dependencies import SIGNED_IN, CallerDep, needs
from millstream_gateway.routers.documentation import problems
from millstream_gateway.schemas.admin import Me

router = APIRouter(prefix="/v1/auth", tags=["auth"])


@router.get("/me", responses=problems(401, 429))
@needs(SIGNED_IN)
async def me(caller: CallerDep) -> Me:
    """The caller: role, tenants and what it may do."""
    principal = caller.principal
    return Me(
        kind=principal.kind,
        id=principal.id,
        name=principal.name,
        role=principal.role,
        verbs=sorted(principal.verbs),
        tenants=sorted(principal.tenants),
        expires_ms=principal.expires_ms,
    )
