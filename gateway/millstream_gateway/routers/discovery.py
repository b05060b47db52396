"""Which series, labels and metrics exist."""

from __future__ import annotations

import re
from typing import Final

from fastapi import APIRouter, Request, Response

from millstream.errors import InvalidArgumentError
from millstream_gateway.dependencies import READS_PARTS, CallerDep, ServicesDep, needs
from millstream_gateway.routers.documentation import form, parameters
from millstream_gateway.routers.envelope import success
from millstream_gateway.routers.params import read_params

router = APIRouter(prefix="/api/v1", tags=["discovery"])

_SELECTION = ("match[]", "start", "end", "limit")
_ESCAPED: Final = re.compile(r"_(?:(_)|([0-9a-fA-F]{1,6})_)")


@router.get("/series", openapi_extra=parameters(*_SELECTION, required=("match[]",)))
@router.post("/series", openapi_extra=form(*_SELECTION, required=("match[]",)))
@needs(READS_PARTS)
async def series(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The label sets of all series that match any selector."""
    params = await read_params(request, services.settings)
    found, warnings = await services.queries.series(
        caller.tenant, params.selection(needs_matcher=True)
    )
    return success(found, warnings)


@router.get("/labels", openapi_extra=parameters(*_SELECTION))
@router.post("/labels", openapi_extra=form(*_SELECTION))
@needs(READS_PARTS)
async def labels(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Label names."""
    params = await read_params(request, services.settings)
    found, warnings = await services.queries.label_names(caller.tenant, params.selection())
    return success(found, warnings)


@router.get("/label/{name}/values", openapi_extra=parameters(*_SELECTION))
@needs(READS_PARTS)
async def label_values(
    name: str, request: Request, services: ServicesDep, caller: CallerDep
) -> Response:
    """The values of one label."""
    plain = unescape_name(name)
    if not plain:
        raise InvalidArgumentError(f'invalid label name: "{name}"')
    params = await read_params(request, services.settings)
    found, warnings = await services.queries.label_values(caller.tenant, plain, params.selection())
    return success(found, warnings)


@router.get("/metadata", openapi_extra=parameters("metric", "limit", "limit_per_metric"))
@needs(READS_PARTS)
async def metadata(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Type, help and unit of metrics."""
    params = await read_params(request, services.settings)
    found = await services.queries.metadata(
        caller.tenant, params.get("metric"), params.limit(), params.limit("limit_per_metric")
    )
    return success(
        {
            name: [{"type": item.type, "help": item.help, "unit": item.unit} for item in items]
            for name, items in found.items()
        }
    )


def unescape_name(name: str) -> str:
    """Undo Prometheus's ``U__`` escaping; a name that is not escaped stays as it is.

    ``__`` stands for an underscore and ``_XX_`` for the character of that hexadecimal number.
    """
    if not name.startswith("U__"):
        return name
    escaped, plain, at = name[3:], [], 0
    while at < len(escaped):
        if escaped[at] != "_":
            plain.append(escaped[at])
            at += 1
            continue
        match = _ESCAPED.match(escaped, at)
        if match is None:
            return name
        number = int(match[2], 16) if match[2] else ord("_")
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            return name
        plain.append(chr(number))
        at = match.end()
    return "".join(plain)
