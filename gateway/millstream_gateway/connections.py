"""Who is connected over HTTP: how many, from where, and who goes when one more comes.

Connections on which nothing goes on are kept as a courtesy and take a place like any other; without
more ado whoever opens enough of them and says nothing would shut everybody out. So who comes when all
places are taken gets that of whoever has been idle for longest, first of all of the same client's
when that has its share. Only when every place is busy does one wait outside: a few such connections
may ask for health, which is what tells an operator why, and are refused anything else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from millstream_gateway.services.client_address import network_of_client

#: What is answered in any case: URLs without a query.
HEALTH_URLS: Final = frozenset({b"/health", b"/-/healthy", b"/-/ready"})

_OUTSIDE_MIN: Final = 16
# Of the places, what is made free at a time: looking for the oldest costs as much for one as for some.
_AT_A_TIME: Final = 128


class Connection(Protocol):
    """One client's."""

    #: When its last answer ended, or else when it came; seconds of the event loop's clock.
    idle_since: float

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way: none is answered, and no head of one is complete."""

    def send_away(self) -> None:
        """End it. It has left already."""


class Connections:
    """Threads  Event loop only.

    Cost  O(1), but O(connections) for who comes when all places are taken.
    """

    def __init__(self, most: int, of_client: int, is_exempt: Callable[[str], bool]) -> None:
        """``is_exempt`` says which peers bring the connections of many clients."""
        self._most = most
        # A quarter is left to others whatever one client does.
        self._of_client = of_client or max(1, most - most // 4)
        self._outside_most = max(_OUTSIDE_MIN, most // 16)
        self._is_exempt = is_exempt
        # Each with the client that it counts for, which is none of a proxy's.
        self._clients: dict[Connection, str] = {}
        self._inside: dict[str, set[Connection]] = {}
        self._inside_count = 0
        self._outside: set[Connection] = set()

    def enter(self, connection: Connection, peer: str) -> bool:
        """Whether there is room for it at all."""
        client = "" if not peer or self._is_exempt(peer) else network_of_client(peer)
        self._clients[connection] = client
        if self._has_place(client):
            self._take_place(connection, client)
            return True
        if len(self._outside) >= self._outside_most and not self._send_away(self._outside, 1):
            del self._clients[connection]
            return False
        self._outside.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """It is over, or is no HTTP any more. Calling it again changes nothing."""
        client = self._clients.pop(connection, None)
        if client is None:
            return
        if connection in self._outside:
            self._outside.remove(connection)
            return
        self._inside_count -= 1
        of_client = self._inside[client]
        of_client.remove(connection)
        if not of_client:
            del self._inside[client]

    def has_place(self, connection: Connection) -> bool:
        """Whether its requests are answered; who waits outside comes in when there is room."""
        if connection not in self._outside:
            return True
        client = self._clients[connection]
        if not self._has_place(client):
            return False
        self._outside.remove(connection)
        self._take_place(connection, client)
        return True

    def _take_place(self, connection: Connection, client: str) -> None:
        self._inside.setdefault(client, set()).add(connection)
        self._inside_count += 1

    def _has_place(self, client: str) -> bool:
        """Whether there is a place for one more of this client, or now is."""
        of_client = self._inside.get(client, set())
        if client and len(of_client) >= self._of_client:
            return self._send_away(of_client, self._of_client // _AT_A_TIME)
        if self._inside_count < self._most:
            return True
        everybody = (one for of_one in self._inside.values() for one in of_one)
        return self._send_away(everybody, self._most // _AT_A_TIME)

    def _send_away(self, among: Iterable[Connection], count: int) -> bool:
        """Make some places free; whether there was one to make free."""
        idle = [one for one in among if one.is_idle]
        for one in heapq.nsmallest(max(1, count), idle, key=lambda one: one.idle_since):
            self.leave(one)
            one.send_away()
        return bool(idle)
