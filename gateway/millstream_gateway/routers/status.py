"""What runs here, and what the store holds."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from millstream.errors import InvalidArgumentError
from millstream_gateway.dependencies import READS, READS_PARTS, CallerDep, ServicesDep, needs
from millstream_gateway.routers.documentation import parameters
from millstream_gateway.routers.envelope import success
from millstream_gateway.routers.params import read_params

router = APIRouter(prefix="/api/v1/status", tags=["status"])

# Clients such as Grafana choose features by the version of Prometheus that a server speaks for.
_PROMETHEUS_VERSION: Final = "3.14.0"
_TOP_DEFAULT: Final = 10
_TOP_MAX: Final = 10_000


@router.get("/buildinfo")
@needs(READS_PARTS)
async def buildinfo(services: ServicesDep) -> Response:
    """The version of Prometheus's API that is spoken, and Millstream's own version."""
    return success(
        {
            "version": _PROMETHEUS_VERSION,
            "revision": "",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
            "millstreamVersion": services.version,
        }
    )


@router.get("/tsdb", openapi_extra=parameters("limit"))
@needs(READS)
async def tsdb(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Cardinality of the head: the metrics, labels and pairs with the most series."""
    params = await read_params(request, services.settings)
    limit = params.limit(default=_TOP_DEFAULT)
    if not 1 <= limit <= _TOP_MAX:
        raise InvalidArgumentError(
            "limit must be a positive number" if limit < 1 else f"limit must not exceed {_TOP_MAX}"
        )
    return success(await services.queries.tsdb_status(caller.tenant, limit))
