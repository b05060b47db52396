"""Tickets: good once, for a short time, in place of credentials that a browser cannot send.

They are kept by this process only, as a SHA-256: whoever reads its memory dump gets in nowhere.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from millstream.errors import UnauthenticatedError
from millstream_gateway.errors import OverloadedError
from millstream_gateway.schemas.access import Caller
from millstream_gateway.services.authentication import Credentials

_TICKETS_MAX: Final = 100_000
_LENGTH_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Ticket:
    """What somebody with a ticket is let in as, and the subscription that begins then."""

    credentials: Credentials
    caller: Caller
    until_ms: int
    subscription_id: str = ""


class TicketService:
    """Threads  Event loop only."""

    def __init__(
        self, ttl_ms: int, clock: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000
    ) -> None:
        self.ttl_ms = ttl_ms
        self._clock = clock
        # In order of their ends, for all live equally long.
        self._tickets: dict[bytes, Ticket] = {}

    def issue(self, credentials: Credentials, caller: Caller, subscription_id: str = "") -> str:
        """A new ticket."""
        self.expire()
        if len(self._tickets) >= _TICKETS_MAX:
            raise OverloadedError("too many tickets wait to be used; try again in a moment")
        text = secrets.token_urlsafe(32)
        until_ms = self._clock() + self.ttl_ms
        self._tickets[_digest(text)] = Ticket(credentials, caller, until_ms, subscription_id)
        return text

    def redeem(self, text: str) -> Ticket:
        """What the ticket is for; it is gone then."""
        self.expire()
        ticket = self._tickets.pop(_digest(text), None) if len(text) <= _LENGTH_MAX else None
        if ticket is None:
            raise UnauthenticatedError("this ticket is not good (any more); ask for a new one")
        return ticket

    def expire(self) -> None:
        """Forget those whose time is over."""
        now_ms = self._clock()
        while self._tickets:
            oldest = next(iter(self._tickets))
            if now_ms < self._tickets[oldest].until_ms:
                return
            del self._tickets[oldest]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
