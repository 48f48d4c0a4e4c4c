"""Behind real proxies, which share connections among clients: each client gets its own answer."""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests import databases, framing
from tests.conftest import SECRET
from tests.framing import ENDING, HIDDEN, HIDDEN_IN_LOG, KEPT, LAST, converse, request
from tests.processes import PATIENCE, Service, eventually, read, serving
from tests.proxies import PROXIES, running_before

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, PROXIES)) and not os.environ.get("CI"), reason="no HAProxy or nginx"
)
MOST_BY_ADDRESS = 1000


@pytest.fixture(scope="module")
async def service(server_url: str, template: None) -> AsyncIterator[Service]:
    """A service that trusts proxies on this machine, and keeps their connections."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    with serving(
        database_url=url, secret_keys=SECRET, trusted_proxies="127.0.0.1", keep_alive_timeout=60
    ) as service:
        yield service
    await databases.drop(server_url, name)


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
        for headers, body in framing.plainly().values()
    ]
    for packets, received in zip(sent, await framing.converse_all(proxied, sent), strict=True):
        assert received.statuses in ([400, 200], [400]), packets
        assert not received.smuggled, packets
    assert HIDDEN_IN_LOG not in service.output()


async def test_no_request_becomes_part_of_another_client_s(proxied: str) -> None:
    """The hidden request has no end: the next one on the proxy's connection would be its end."""
    begun = HIDDEN.removesuffix(b"\r\n\r\n") + b"\r\nX: "
    connections = [*KEPT.values(), *ENDING.values()]
    ways = [
        (way, connection) for way in framing.plainly(begun).values() for connection in connections
    ]
    ways += [(way, ENDING["h2c"]) for way in framing.doubtfully(begun).values()]
    async with httpx2.AsyncClient(base_url=proxied, timeout=PATIENCE) as other:
        for (headers, body), connection in ways:
            head = request(headers + connection)
            await converse(proxied, head, body, answers=1)
            assert (await other.get("/health/live")).json() == {"status": "live"}, head


async def test_no_tunnel_is_opened(proxied: str) -> None:
    tunnel = b"CONNECT scopegate.test:80 HTTP/1.1\r\nHost: scopegate.test:80\r\n\r\n"
    assert (await converse(proxied, tunnel, answers=1)).statuses[0] in {400, 405}


@pytest.fixture
def haproxy(service: Service, tmp_path: Path) -> Iterator[str]:
    """The URL through HAProxy as it ships."""
    with running_before(service.url, "haproxy", tmp_path) as url:
        eventually(lambda: httpx2.get(f"{url}/health/live").status_code == 200)
        yield url


async def test_a_trailer_does_not_replace_what_the_shipped_proxy_says(haproxy: str) -> None:
    trailer = b"X-Request-Id: from-a-trailer\r\n\r\n"
    body = framing.chunked(HIDDEN).removesuffix(b"\r\n") + trailer
    sent = request(b"Transfer-Encoding: chunked\r\nConnection: close\r\n", body)
    received = await converse(haproxy, sent)
    assert received.statuses == [400]
    assert b"from-a-trailer" not in received.data


def test_connections_from_one_address_leave_room_for_others(haproxy: str) -> None:
    """Silent connections too, before a byte is read."""
    address = urlsplit(haproxy)
    there = (str(address.hostname), int(address.port or 0))
    with ExitStack() as stack:

        def connect(source: str) -> socket.socket:
            made = socket.create_connection(there, PATIENCE, source_address=(source, 0))
            return stack.enter_context(made)

        for _ in range(MOST_BY_ADDRESS):
            connect("127.0.0.2")
        # The reset may come before `connect` has returned.
        with suppress(ConnectionResetError):
            assert read(connect("127.0.0.2")) == b""
        neighbour = connect("127.0.0.3")
        neighbour.sendall(LAST)
        assert b" 200 OK" in read(neighbour)
