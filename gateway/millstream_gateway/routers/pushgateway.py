"""Metrics pushed by batch jobs, as to Prometheus's Pushgateway.

``/metrics/job/JOB{/LABEL/VALUE}`` names a group by its grouping labels. ``job@base64`` and
``LABEL@base64`` take their value in base64 of the URL alphabet, for what cannot stand in a path: a
slash, or nothing at all (``=``).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from millstream.errors import InvalidArgumentError, MillstreamError
from millstream_gateway.dependencies import WRITES, CallerDep, ServicesDep, needs
from millstream_gateway.routers.body import read_body
from millstream_gateway.routers.documentation import problems
from millstream_gateway.routers.media import check_text, is_gzipped, media_type
from millstream_gateway.schemas.access import Caller
from millstream_gateway.schemas.push import PushOutcome
from millstream_gateway.services.container import Services
from millstream_gateway.services.pushed_text import parse_families

router = APIRouter(tags=["ingest"])

_BASE64: Final = "@base64"
_LABELS_MAX: Final = 32
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z", re.ASCII)
_OPEN_METRICS: Final = "application/openmetrics-text"
_PATHS: Final = ("/metrics/job/{group:path}", "/metrics/job@base64/{group:path}")
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {"schema": {"type": "string"}, "example": "records_total 42\n"},
            _OPEN_METRICS: {"schema": {"type": "string"}},
        },
    }
}
_REFUSALS: Final = problems(400, 401, 403, 429)


@router.put(_PATHS[0], responses=_REFUSALS, openapi_extra=_BODY, response_class=Response)
@router.put(_PATHS[1], responses=_REFUSALS, openapi_extra=_BODY, response_class=Response)
@needs(WRITES)
async def replace_group(
    group: str, request: Request, caller: CallerDep, services: ServicesDep
) -> Response:
    """Put these metrics in place of everything in the group.

    The last pushed value of each series stays current until the group is replaced or deleted.
    """
    return await _push(group, request, caller, services, replace=True)


@router.post(_PATHS[0], responses=_REFUSALS, openapi_extra=_BODY, response_class=Response)
@router.post(_PATHS[1], responses=_REFUSALS, openapi_extra=_BODY, response_class=Response)
@needs(WRITES)
async def add_to_group(
    group: str, request: Request, caller: CallerDep, services: ServicesDep
) -> Response:
    """Put these metrics in place of those in the group that have the same names."""
    return await _push(group, request, caller, services, replace=False)


@router.delete(_PATHS[0], responses=_REFUSALS, status_code=202, response_class=Response)
@router.delete(_PATHS[1], responses=_REFUSALS, status_code=202, response_class=Response)
@needs(WRITES)
async def delete_group(
    group: str, request: Request, caller: CallerDep, services: ServicesDep
) -> Response:
    """End the group and all its series; also when there is none."""
    labels = grouping_labels(group, job_is_base64=_BASE64 in _template(request))

    def work() -> PushOutcome:
        services.push_gateway.delete(caller.tenant, labels)
        return PushOutcome()

    await services.ingest.apply("push", work)
    return Response(status_code=202)


def grouping_labels(path: str, *, job_is_base64: bool = False) -> dict[str, str]:
    """The labels that a path names; `InvalidArgumentError` when it does not name any well."""
    job, *parts = path.split("/")
    if job_is_base64:
        job = _decoded("job", job)
    if not job:
        raise InvalidArgumentError("the job is missing; /metrics/job/JOB names a group")
    if parts == [""]:
        parts = []
    if len(parts) % 2:
        raise InvalidArgumentError(
            "the labels of a group come in pairs: /metrics/job/JOB/LABEL/VALUE"
        )
    if len(parts) > 2 * _LABELS_MAX:
        raise InvalidArgumentError(f"a group has at most {_LABELS_MAX} labels")
    labels: dict[str, str] = {}
    for written, value in zip(parts[::2], parts[1::2], strict=True):
        name = written.removesuffix(_BASE64)
        if not _LABEL_NAME.match(name) or name.startswith("__"):
            raise InvalidArgumentError(f"{name[:100]!r} cannot be a label of a group")
        if name in labels or name == "job":
            raise InvalidArgumentError(f"the label {name} comes twice")
        labels[name] = value if name == written else _decoded(name, value)
    labels["job"] = job
    return labels


async def _push(
    path: str, request: Request, caller: Caller, services: Services, *, replace: bool
) -> Response:
    labels = grouping_labels(path, job_is_base64=_BASE64 in _template(request))
    media, _ = media_type(request.headers.get("content-type", ""))
    check_text(request.headers)
    gzipped = is_gzipped(request.headers)
    bytes_max = services.settings.push.body_bytes
    with services.ingest.budget.lease() as take:
        body = await read_body(
            request.receive,
            Headers(scope=request.scope),
            bytes_max=bytes_max,
            limit_name="push.body_bytes",
            timeout_ms=services.settings.server.body_timeout,
            take=take,
        )

        def work() -> PushOutcome:
            try:
                text = services.ingest.unpack(body, bytes_max) if gzipped else body
                families = parse_families(text, labels, open_metrics=media == _OPEN_METRICS)
            except MillstreamError:
                services.push_gateway.note_failure(caller.tenant, labels)
                raise
            return services.push_gateway.push(caller.tenant, labels, families, replace=replace)

        await services.ingest.apply("push", work)
    return Response(status_code=200)


def _template(request: Request) -> str:
    path: str = request.scope["route"].path
    return path


def _decoded(name: str, value: str) -> str:
    # Padding may be missing, and a value of nothing but padding is the empty one.
    text = value.rstrip("=")
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.b64decode(padded.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise InvalidArgumentError(f"the value of label {name} is not base64 of a text") from None
