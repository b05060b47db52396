"""From which address a request comes, also behind proxies.

What a client writes into a header it may write as it likes, so forwarded addresses count only when
the connection comes from a proxy that the settings name, and only as far as proxies that they name
have written them: the chain is read from its end, and the first address that is no such proxy is
the client. One header is believed, not two: a proxy that writes one of them lets the other through.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from millstream_gateway.settings import ServerSettings

_HOPS_MAX: Final = 32
_CACHED: Final = 10_000
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;"\s]+)\s*(?=;|$)', re.IGNORECASE)


class ClientAddress:
    """Threads  Any."""

    def __init__(self, settings: ServerSettings) -> None:
        self._trusted: Sequence[_Network] = tuple(map(_network_of, settings.trusted_proxies))
        self.header = settings.forwarded_header.encode()
        self._is_trusted = lru_cache(_CACHED)(self._look_up)

    @property
    def believes_nobody(self) -> bool:
        return not self._trusted

    def is_proxy(self, peer: str) -> bool:
        """Whether this address brings the requests of many clients."""
        return bool(self._trusted) and self._is_trusted(peer)

    def of(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client's address; the peer's own when nothing better is known for certain."""
        if not self._trusted or not self._is_trusted(peer):
            return peer
        values = [value.decode("latin-1") for name, value in headers if name == self.header]
        hops = ",".join(values).split(",")[-_HOPS_MAX:] if values else []
        found = peer
        for hop in reversed(hops):
            address = self._parse(hop)
            if address is None:
                # Not an address: whoever wrote it hides something; the last known one counts.
                return found
            found = address
            if not self._is_trusted(found):
                return found
        return found

    def _parse(self, hop: str) -> str | None:
        text = hop.strip()
        if self.header == b"forwarded":
            match = _FOR.search(text)
            if match is None:
                return None
            text = match[1].strip('"')
        return _bare(text)

    def _look_up(self, text: str) -> bool:
        try:
            address = _plain(ipaddress.ip_address(text))
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _network_of(text: str) -> _Network:
    return ipaddress.ip_network(text, strict=False)


def _plain(address: _Address) -> _Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _bare(text: str) -> str | None:
    """An address without port and brackets; None when it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(_plain(ipaddress.ip_address(text)))
    except ValueError:
        return None


def network_of_client(client: str) -> str:
    """What counts as one client: an address, or the /64 of IPv6 that one customer has."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(_plain(address))
