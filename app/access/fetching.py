"""Fetch a small document from an address that a stranger has chosen.

This service stands in a private network that the stranger may not reach. So it connects to public
addresses alone, follows no redirect, reads little, and does not tell what went wrong.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult

import h11

from app.errors import DomainError

MOST_BYTES = 5 * 1024
MOST_SECONDS = 5.0
"""For all of it: the name, the connection, and the answer."""
_PORTS = {"https": 443, "http": 80}
_PUBLIC = IPv6Network("2000::/3")
# Through these an address of IPv4 is reached, whichever that is.
_TUNNELS = [IPv6Network(each) for each in ("2002::/16", "2001::/32")]


class NotFetched(DomainError):
    """There is no such document, or it is none that can be used."""

    text = "It can't be fetched: nothing answers there, or not with the document itself."


class TooLarge(NotFetched):
    """It has too many bytes."""

    text = "It has more than 5 KB."


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and the headers that came with it, their names in lower case."""

    body: bytes
    headers: Mapping[str, str]


async def fetch(url: SplitResult, *, privately: bool = False) -> Fetched:
    """Return what is at this https URL; `privately`: on any network, also by http.

    Raises NotFetched or TooLarge.
    """
    try:
        async with asyncio.timeout(MOST_SECONDS):
            return await _fetch(url, privately=privately)
    except (OSError, UnicodeError, h11.RemoteProtocolError):
        # A timeout is an OSError, and what TLS complains of. UnicodeError: of a name that is none.
        raise NotFetched from None


async def _fetch(url: SplitResult, *, privately: bool) -> Fetched:
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    addresses = await _addresses(host, port)
    # The address that was checked is connected to: the name may lead elsewhere a moment later.
    if not addresses or not (privately or all(map(is_public, addresses))):
        raise NotFetched
    tls = ssl.create_default_context() if url.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        addresses[0], port, ssl=tls, server_hostname=host if tls else None
    )
    try:
        return await _get(reader, writer, url)
    finally:
        writer.transport.abort()


async def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses that this name has."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet, for certain."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        return found in _PUBLIC and found.is_global and not any(found in each for each in _TUNNELS)
    return found.is_global and not found.is_multicast


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: SplitResult
) -> Fetched:
    connection = h11.Connection(h11.CLIENT)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = [
        ("Host", url.netloc),
        ("Accept", "application/json"),
        ("User-Agent", "scopegate"),
        ("Connection", "close"),
    ]
    request = connection.send(h11.Request(method="GET", target=target, headers=headers))
    writer.write((request or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body, found = b"", None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(MOST_BYTES))
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise NotFetched
            found = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MOST_BYTES:
                raise TooLarge
        elif isinstance(event, h11.EndOfMessage) and found is not None:
            return Fetched(body, found)
        elif not isinstance(event, h11.InformationalResponse):
            raise NotFetched
