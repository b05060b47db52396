"""What a route may ask for."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.types import Scope

from millstream_gateway.services.container import Services


def services_of(scope: Scope) -> Services:
    """The services of the application that a plain ASGI endpoint runs in."""
    return cast(Services, scope["app"].state.services)


def _services(request: Request) -> Services:
    return services_of(request.scope)


ServicesDep = Annotated[Services, Depends(_services)]
