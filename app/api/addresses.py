"""Where a request comes from, when there are proxies before the service."""

import ipaddress
import re
from collections.abc import Collection, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Some proxies write the port too: 192.0.2.1:4711, [2001:db8::1]:4711.
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+")

MAX_HOPS = 32
"""Addresses that are read from X-Forwarded-For: a client can repeat a proxy's address there."""
# All of IPv4, as a server with IPv6 alone sees it (RFC 6052 §2.1): otherwise one /64 for all.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def client_address(
    peer: str | None, forwarded_for: Sequence[str], *, trusted: Collection[Network]
) -> str | None:
    """Return the right-most address of X-Forwarded-For and the peer that is no trusted proxy's.

    `forwarded_for` has the values of that header, of which there can be several. Everything to the
    left of an untrusted address or of junk is ignored, because a client may have written it. If all
    are trusted, return the left-most; None if the peer has no address.
    """
    address = parse_address(peer or "")
    if address is None:
        return peer
    if not _is_in(address, trusted):
        return str(address)
    # All beyond MAX_HOPS stays in one piece, which is no address.
    hops = [hop for hop in ",".join(forwarded_for).rsplit(",", MAX_HOPS) if hop.strip()]
    while hops and _is_in(address, trusted):
        hop = parse_address(hops.pop())
        if hop is None:
            break
        address = hop
    return str(address)


def is_trusted(client: tuple[str, int] | None, trusted: Collection[Network]) -> bool:
    """Whether this peer, as ASGI names it, is one of the proxies."""
    address = parse_address(client[0]) if client else None
    return address is not None and _is_in(address, trusted)


def _is_in(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)


def parse_address(text: str) -> Address | None:
    """Return the address without its port, and as IPv4 if IPv6 contains one; None for junk."""
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2] or ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version == 4:
        return address
    # Without the zone, which can be any text.
    address = ipaddress.IPv6Address(int(address))
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address
