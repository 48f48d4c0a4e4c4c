"""Fetch a small document from an address that a stranger has chosen.

This service stands in a private network that the stranger may not reach. So it connects to public
addresses alone, follows no redirect, reads little, and does not tell what went wrong.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult

import h11

from app.errors import DomainError

MOST_BYTES = 5 * 1024
MOST_SECONDS = 5.0
"""For all of it: the name, the connection, and the answer."""
MOST_LOOKUPS = 20
"""Names that are being looked up. A lookup can't be cancelled, and a stranger's may take long."""
_PORTS = {"https": 443, "http": 80}
_PUBLIC = IPv6Network("2000::/3")
# Through the first two an address of IPv4 is reached, whichever that is. Python's table lacks the
# others.
_SPECIAL: list[IPv4Network | IPv6Network] = [
    *(IPv6Network(each) for each in ("2002::/16", "2001::/32", "3fff::/20")),
    *(IPv4Network(each) for each in ("192.88.99.0/24", "192.0.0.0/24")),
]
_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)


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


async def fetch(url: SplitResult, tls: ssl.SSLContext, *, privately: bool = False) -> Fetched:
    """Return what is at this https URL; `privately`: on any network, also by http.

    Raises NotFetched or TooLarge.
    """
    try:
        async with asyncio.timeout(MOST_SECONDS):
            return await _fetch(url, tls, privately=privately)
    except (OSError, UnicodeError, h11.RemoteProtocolError):
        # A timeout is an OSError, and what TLS complains of. UnicodeError: of a name that is none.
        raise NotFetched from None


async def _fetch(url: SplitResult, tls: ssl.SSLContext, *, privately: bool) -> Fetched:
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    addresses = await _addresses(host)
    # The address that was checked is connected to: the name may lead elsewhere a moment later.
    if not addresses or not (privately or all(map(is_public, addresses))):
        raise NotFetched
    secure = url.scheme == "https"
    reader, writer = await asyncio.open_connection(
        addresses[0], port, ssl=tls if secure else None, server_hostname=host if secure else None
    )
    try:
        return await _get(reader, writer, url)
    finally:
        writer.transport.abort()


async def _addresses(host: str) -> list[str]:
    """Return the addresses that this name has. Raises NotFetched when too many are looked up.

    By a thread of its own: the event loop's lookups share a few threads, which the way to the
    database needs too.
    """
    if not _lookups.acquire(blocking=False):
        raise NotFetched
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(outcome: list[str] | Exception) -> None:
        if found.done():
            return
        if isinstance(outcome, Exception):
            found.set_exception(outcome)
        else:
            found.set_result(outcome)

    def look_up() -> None:
        outcome: list[str] | Exception
        try:
            given = socket.getaddrinfo(host, None)
            outcome = [str(address[0]) for *_, address in given]
        except (OSError, UnicodeError) as error:
            outcome = error
        finally:
            _lookups.release()
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=look_up, name="client-document", daemon=True).start()
    return await found


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet, for certain."""
    found = ip_address(address)
    if any(found in each for each in _SPECIAL) or not found.is_global:
        return False
    return found in _PUBLIC if isinstance(found, IPv6Address) else not found.is_multicast


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
