"""Rules and alerts, for clients that list them beside queries. There are no rules yet, so the lists are empty."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from millstream.errors import InvalidArgumentError
from millstream_gateway.dependencies import READS_PARTS, ServicesDep, needs
from millstream_gateway.routers.documentation import parameters
from millstream_gateway.routers.envelope import success
from millstream_gateway.routers.params import read_params

router = APIRouter(prefix="/api/v1", tags=["rules"])

_KINDS: Final = ("", "alert", "record")


@router.get("/rules", openapi_extra=parameters("type"))
@needs(READS_PARTS)
async def rules(request: Request, services: ServicesDep) -> Response:
    """Groups of recording and alerting rules."""
    kind = (await read_params(request, services.settings)).get("type")
    if kind.lower() not in _KINDS:
        raise InvalidArgumentError(f'invalid parameter "type": not supported value "{kind}"')
    return success({"groups": []})


@router.get("/alerts")
@needs(READS_PARTS)
async def alerts() -> Response:
    """Alerts that are pending or firing."""
    return success({"alerts": []})
