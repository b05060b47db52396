"""Alive, ready, and the server's own metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from millstream_gateway.dependencies import ServicesDep
from millstream_gateway.services.own_metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.api_route("/health", methods=["GET", "HEAD"])
async def health(services: ServicesDep) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok", "version": services.version})


@router.api_route("/-/healthy", methods=["GET", "HEAD"])
async def healthy() -> Response:
    """The process answers, in Prometheus's words."""
    return PlainTextResponse("Millstream is Healthy.\n")


@router.api_route("/-/ready", methods=["GET", "HEAD"])
async def ready(services: ServicesDep) -> Response:
    """Requests can be served now; 503 with the reason when they cannot."""
    await services.control.run(services.backend.check_ready)
    return PlainTextResponse("Millstream is Ready.\n")


@router.get("/metrics")
@router.get("/v1/metrics")
async def own_metrics(services: ServicesDep) -> Response:
    """The server's and the engine's own metrics as text exposition."""
    text = await services.control.run(services.metrics.exposition)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})
