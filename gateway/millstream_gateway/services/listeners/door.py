"""The door in front of listeners whose clients say who they are, as the guard is for routes."""

from __future__ import annotations

from typing import Final

from millstream.errors import PermissionDeniedError, UnauthenticatedError
from millstream_gateway.backends.wire import Hello
from millstream_gateway.schemas.access import Action, Caller
from millstream_gateway.schemas.limits import SPENDS_ALL, Unit
from millstream_gateway.services.access import AccessControl
from millstream_gateway.services.authentication import Credentials
from millstream_gateway.services.limits import set_admission
from millstream_gateway.services.tenants import requested_tenants

_NOTED: Final = "native.write"


class Door:
    """Asked anew for every frame, so a key that was revoked ends at once.

    Threads  Event loop only.
    """

    def __init__(self, access: AccessControl) -> None:
        self._access = access

    async def greet(self, hello: Hello, client: str) -> Caller:
        """Who comes: somebody who may write, or at least read."""
        return await self.caller_of(hello, client, Action.WRITE, Action.READ)

    async def caller_of(self, hello: Hello, client: str, *actions: Action) -> Caller:
        """Who it is that may do one of these, the first that may be, and whose data it is.

        Raises what the client is to be told.
        """
        credentials = Credentials(
            authorization=(b"Bearer " + hello.key.encode(),) if hello.key else ()
        )
        try:
            principal = await self._access.authenticator.identify(credentials, client)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            if credentials != Credentials():
                claimed = self._access.authenticator.claimed_key(credentials)
                self._access.note_refused(client, _NOTED, error.message, **claimed)
            raise
        headers = [hello.tenant.encode("latin-1", "replace")] if hello.tenant else []
        names = requested_tenants(headers, principal)
        entrance = self._access.entrance
        for action in actions:
            decision = entrance.decide(principal, action, names)
            if decision.allowed:
                break
        else:
            caller = Caller(principal, client=client)
            self._access.audit.note(caller, _NOTED, "forbidden", reason=decision.reason)
            raise PermissionDeniedError(decision.reason)
        return await entrance.enter(principal, action, names, decision, client)

    async def charge(self, caller: Caller, size: int, spends: frozenset[Unit] = SPENDS_ALL) -> None:
        """Ask the limits whether a frame of so many bytes may be; its samples are paid later."""
        limits = self._access.limits
        set_admission(
            await limits.admit(caller, by_tenant=True, is_json=False, size=size, spends=spends)
        )
