"""Behind real proxies, which share connections among clients: each client gets its own answer."""

import asyncio
import json
import os
import select
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.conftest import SECRET
from tests.support import databases, framing
from tests.support.documents import Document
from tests.support.factories import PASSWORD
from tests.support.framing import ENDING, HIDDEN, HIDDEN_IN_LOG, KEPT, LAST, converse, request
from tests.support.processes import PATIENCE, Service, command, eventually, free_port, serving
from tests.support.proxies import PROXIES, haproxy_configuration, running, running_before

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not all(map(shutil.which, PROXIES)) and not os.environ.get("CI"),
        reason="no HAProxy or nginx",
    ),
]
MOST_BY_ADDRESS = 1000
TOO_MANY = 100
PADDING = b"\r\n" * 10_000
"""Empty lines, which a parser skips before a request.

What is hidden in a body must lie behind what a proxy sends together with the head.
"""


@pytest.fixture(scope="module")
async def database(server_url: str, template: None) -> AsyncIterator[dict[str, str]]:
    """A database with a user `alice`, as settings."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    settings = {"database_url": url, "secret_keys": SECRET}
    await command("user", "create", "alice", stdin=PASSWORD, **settings)
    yield settings
    await databases.drop(server_url, name)


@pytest.fixture(scope="module")
def service(database: dict[str, str]) -> Iterator[Service]:
    """A service that trusts proxies on this machine, and keeps their connections."""
    trusting: dict[str, Any] = {"trusted_proxies": "127.0.0.1", "keep_alive_timeout": 60}
    with serving(**trusting | database) as service:
        yield service


@pytest.fixture(scope="module", params=PROXIES)
def proxied(
    service: Service, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL through one of the proxies."""
    with running_before(service.url, request.param, tmp_path_factory.mktemp("proxy")) as url:
        eventually(lambda: httpx2.get(f"{url}/health/live").status_code == 200)
        yield url


async def test_a_request_hidden_in_a_body_never_reaches_the_app(
    service: Service, proxied: str
) -> None:
    sent = [
        [request(headers + connection), body + LAST]
        for connection in (*KEPT.values(), *ENDING.values())
        for headers, body in framing.plainly(PADDING + HIDDEN).values()
    ]
    for packets, received in zip(sent, await framing.converse_all(proxied, sent), strict=True):
        assert len(received.statuses) <= 2, packets
        assert not received.smuggled, packets
    assert HIDDEN_IN_LOG not in service.output()


async def test_no_request_becomes_part_of_another_client_s(proxied: str) -> None:
    """The hidden request has no end: the next one on the proxy's connection would be its end."""
    begun = PADDING + HIDDEN.removesuffix(b"\r\n\r\n") + b"\r\nX: "
    ways = [
        (headers + connection, body)
        for connection in ENDING.values()
        for headers, body in framing.plainly(begun).values()
    ]
    offer = ENDING["by Proxy-Connection"]
    ways += [(headers + offer, body) for headers, body in framing.doubtfully(begun).values()]
    for headers, body in ways:
        await asyncio.to_thread(attack, proxied, request(headers), body)


def attack(proxied: str, head: bytes, body: bytes) -> None:
    """Hide the body's request, then ask as two other clients, twice each."""
    with connect(proxied) as attacker:
        # HAProxy gives to others only connections on which a second request went well.
        ask(attacker)
        ask(attacker)
        with suppress(ConnectionError):
            attacker.sendall(head + body[:-20])
            # Behind the fault the answer is there before the body, and then the proxy is ready.
            select.select([attacker], [], [], 0.05)
            attacker.sendall(body[-20:])
            select.select([attacker], [], [], 0.05)
        for _ in range(2):
            with connect(proxied) as other:
                assert b'"live"' in ask(other), head
                assert b'"live"' in ask(other), head


def connect(url: str, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection to this URL, from this address."""
    address = urlsplit(url)
    there = (str(address.hostname), int(address.port or 0))
    return socket.create_connection(there, PATIENCE, source_address=(source, 0))


def ask(connection: socket.socket) -> bytes:
    """Return the answer to one more request on a connection."""
    connection.sendall(LAST.replace(b"Connection: close\r\n", b""))
    received = b""
    while b"}" not in received and (block := connection.recv(65536)):
        received += block
    return received


async def test_no_tunnel_is_opened(proxied: str) -> None:
    tunnel = b"CONNECT scopegate.test:80 HTTP/1.1\r\nHost: scopegate.test:80\r\n\r\n"
    assert (await converse(proxied, tunnel, answers=1)).statuses[0] in {400, 405}


@pytest.fixture
def haproxy(service: Service, tmp_path: Path) -> Iterator[str]:
    """The URL through HAProxy as it ships."""
    with running_before(service.url, "haproxy", tmp_path) as url:
        eventually(lambda: httpx2.get(f"{url}/health/live").status_code == 200)
        yield url


async def test_a_client_does_not_name_its_address_in_a_trailer(
    haproxy: str, database: dict[str, str]
) -> None:
    form = framing.chunked(b"username=alice&password=wrong").removesuffix(b"\r\n")
    trailer = b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
    headers = b"Transfer-Encoding: chunked\r\nConnection: close\r\n"
    login = request(headers, form + trailer).replace(b"/revoke", b"/token")
    assert (await converse(haproxy, login)).statuses == [400]
    shown = await command("audit", "--user", "alice", "--json", **database)
    failed = [entry for entry in map(json.loads, shown.splitlines()) if entry["address"]]
    assert [entry["address"] for entry in failed] == ["127.0.0.1"]


def test_connections_from_one_address_leave_room_for_others(haproxy: str) -> None:
    """Silent connections too, before a byte is read."""
    address = urlsplit(haproxy)
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.socket()) for _ in range(MOST_BY_ADDRESS + TOO_MANY)
        ]
        # All at once: the proxy closes silent ones after 10 seconds, with an answer.
        for connection in connections:
            connection.setblocking(False)
            connection.bind(("127.0.0.2", 0))
            connection.connect_ex((address.hostname, address.port))
        eventually(lambda: sum(map(is_refused, connections)) == TOO_MANY)
        assert b'"live"' in ask(stack.enter_context(connect(haproxy, "127.0.0.3")))


def is_refused(connection: socket.socket) -> bool:
    """Return whether the server has closed, and not sent anything."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_the_proxy_lets_only_the_named_origins_sign_in(service: Service, tmp_path: Path) -> None:
    (block,) = Document("docs/how-to/run-in-production.md").blocks("haproxy")
    port = free_port()
    shipped = haproxy_configuration(service.url, port, tmp_path)
    narrowed = shipped.replace("    default_backend", f"{block.text}\n    default_backend")
    form = {"username": "alice", "password": PASSWORD}
    with (
        running(("haproxy", "-db", "-f"), narrowed, port, tmp_path),
        httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        eventually(lambda: client.get("/health/live").status_code == 200)
        for path in ("/token", "/revoke"):
            for origin, status in (
                (None, 200),
                ("https://auth.example", 200),
                ("https://app.example", 200),
                ("https://other.example", 403),
                ("https://app.example.other.example", 403),
                ("null", 403),
            ):
                headers = {"Origin": origin} if origin else {}
                answer = client.post(path, data={**form, "token": "unknown"}, headers=headers)
                assert answer.status_code == status, (path, origin)
        asked = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
        assert client.options("/token", headers=asked).status_code == 403
        known = client.get("/.well-known/jwks.json", headers=asked)
        assert known.headers["access-control-allow-origin"] == "*"


async def test_the_shipped_proxy_passes_on_no_offer_to_upgrade(tmp_path: Path) -> None:
    heads = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with (
        await asyncio.start_server(keep, "127.0.0.1", 0) as server,
        AsyncExitStack() as stack,
    ):
        port = server.sockets[0].getsockname()[1]
        proxy = running_before(f"http://127.0.0.1:{port}", "haproxy", tmp_path)
        url = await asyncio.to_thread(proxy.__enter__)
        stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        for offer in ENDING.values():
            received = await converse(url, request(offer), answers=1)
            assert received.statuses == [200]
    asked = [head for head in heads if b"/revoke" in head]
    assert len(asked) == len(ENDING)
    for head in asked:
        assert b"upgrade" not in head
        assert b"http2-settings" not in head
