"""From who somebody is to whose data they reach: the one way in for routes and for listeners."""

from __future__ import annotations

import asyncio

from millstream.errors import InvalidArgumentError, NotFoundError
from millstream_gateway.schemas.access import (
    TENANT_HEADER,
    Action,
    Caller,
    Decision,
    Principal,
    Resource,
    TenantId,
    TenantScope,
)
from millstream_gateway.services.acls import AclService
from millstream_gateway.services.authorization import decide
from millstream_gateway.services.tenants import TenantService


class Entrance:
    """Threads  Event loop only."""

    def __init__(self, tenants: TenantService, acls: AclService) -> None:
        self._tenants = tenants
        self._acls = acls

    def decide(self, principal: Principal, action: Action, names: frozenset[str]) -> Decision:
        """Whether this may be done to these tenants, and to which part of them."""
        return decide(principal, action, Resource(names), self._acls.all())

    async def enter(
        self,
        principal: Principal,
        action: Action,
        names: frozenset[str],
        decision: Decision,
        client: str,
    ) -> Caller:
        """The caller, with what the decision gives of the tenants."""
        if len(names) == 1 and not decision.metrics:
            (name,) = names
            return Caller(
                principal, await self._number(principal, action, name, client), name, client
            )
        if len(names) > 1 and action is Action.WRITE:
            raise InvalidArgumentError(f"a write goes to one tenant; {TENANT_HEADER} names two")
        scopes = []
        for name in sorted(names):
            number = await self._number(principal, action, name, client)
            scopes.append(TenantScope(number, name, *decision.metrics.get(name, ((), ()))))
        return Caller(principal, TenantId.of(tuple(scopes)), scopes[0].name, client)

    async def _number(
        self, principal: Principal, action: Action, name: str, client: str
    ) -> TenantId:
        number = self._tenants.id_of(name)
        if number is not None:
            return number
        if action is not Action.WRITE or not principal.has_every_tenant:
            raise NotFoundError(f"there is no tenant {name}")
        caller = Caller(principal, client=client)
        return (await asyncio.to_thread(self._tenants.ensure, caller, name)).id
