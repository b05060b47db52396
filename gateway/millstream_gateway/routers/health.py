"""Alive, ready, and the server's own metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from millstream_gateway.dependencies import MONITORS, PUBLIC, ServicesDep, needs
from millstream_gateway.services.own_metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/health")
@router.head("/health", include_in_schema=False)
@needs(PUBLIC)
async def health(services: ServicesDep) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok", "version": services.version})


@router.get("/-/healthy", response_class=PlainTextResponse)
@router.head("/-/healthy", include_in_schema=False)
@needs(PUBLIC)
async def healthy() -> Response:
    """The process answers, in Prometheus's words."""
    return PlainTextResponse("Millstream is Healthy.\n")


@router.get("/-/ready", response_class=PlainTextResponse)
@router.head("/-/ready", include_in_schema=False)
@needs(PUBLIC)
async def ready(services: ServicesDep) -> Response:
    """Requests can be served now; 503 with the reason when they cannot."""
    await services.control.run(services.backend.check_ready)
    return PlainTextResponse("Millstream is Ready.\n")


@router.get("/metrics", response_class=PlainTextResponse)
@router.get("/v1/metrics", response_class=PlainTextResponse)
@needs(MONITORS)
async def own_metrics(services: ServicesDep) -> Response:
    """The server's and the engine's own metrics as text exposition."""
    text = await services.control.run(services.metrics.exposition)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})
