"""What the host of an address means: who can reach it, and whether two listeners would collide.

A name stands for itself alone, but for ``localhost``: to look others up at the start would make
it depend on a name server.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_LOCALHOST: Final = "localhost"
_STANDS_FOR: Final = frozenset({_LOCALHOST, "127.0.0.1", "::1"})
"""What a listener on localhost may get."""

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    address = _address(host)
    return host.lower() == _LOCALHOST if address is None else address.is_loopback


def collide(one: str, other: str) -> bool:
    """Whether two listeners on the same port, one on each host, are in each other's way."""
    addresses = [_address(host) for host in (one, other)]
    if ipaddress.IPv6Address("::") in addresses:
        return True  # it takes IPv4 as well
    if ipaddress.IPv4Address("0.0.0.0") in addresses:  # noqa: S104 - compared, not bound
        return not any(isinstance(address, ipaddress.IPv6Address) for address in addresses)
    names = {str(_address(host) or host.lower()) for host in (one, other)}
    return len(names) == 1 or (_LOCALHOST in names and names <= _STANDS_FOR)


def _address(host: str) -> IP | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
