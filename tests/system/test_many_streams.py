"""As many streams as one process opens: all hear of all, and what they cost is bounded."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.conftest import SECRET
from tests.support.factories import PASSWORD
from tests.support.postgres_programs import libpq_url
from tests.support.processes import PATIENCE, Service, command, resident, serving, until
from tests.support.sockets import readable

# Measured, a service would take twice the time for each frame, and could not keep up.
pytestmark = pytest.mark.long
STREAMS = 100
"""SCOPEGATE_MAX_STREAMS as it is if nobody sets it."""
CHANGES = 5000
A_SECOND = 1000
AT_ONCE = 10
"""Changes that are committed together."""
BEHIND = 500
"""Changes that a stream may be behind in the test: half of what makes it begin anew."""
MOST_MEMORY = 24 * 2**20
"""Bytes, for 100 streams that take nothing, whatever happens meanwhile."""


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with a follower in its database."""
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    await command("user", "create", "alice", "--scope", "read:events", stdin=PASSWORD, **settings)
    return settings


@pytest.fixture
async def connection(own_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(libpq_url(own_database_url))
    yield connection
    await connection.close()


def request_of(service: Service) -> bytes:
    """Return the request that opens a stream."""
    form = {"username": "alice", "password": PASSWORD}
    answer = httpx2.post(f"{service.url}/token", data=form)
    token: str = answer.raise_for_status().json()["access_token"]
    return (
        f"GET /events HTTP/1.1\r\nHost: scopegate.test\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


async def change(connection: asyncpg.Connection, first: int, number: int) -> None:
    """Commit so many changes, of users that are numbered."""
    await connection.execute(
        "SELECT pg_notify('scopegate_events', 'account-enabled ' || lpad(to_hex(n), 32, '0')::uuid)"
        f" FROM generate_series({first}, {first + number - 1}) n"
    )


class Follower(asyncio.Protocol):
    """One stream: which changes it has told of, and whether it said that it tells of no more."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self.begun = self.forgot = self.lost = False
        self.told: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        # Whole frames. What stands between them are the sizes of chunks.
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            self.begun = True
            if b"event: set" in frame:
                user = frame.partition(b'"sub":"')[2][:36]
                self.told.append(int(user.replace(b"-", b""), 16))
            self.forgot |= b"event: everything" in frame


async def test_a_thousand_changes_a_second_reach_each_of_100_streams_in_their_order(
    settings: dict[str, Any], connection: asyncpg.Connection
) -> None:
    loop = asyncio.get_running_loop()
    with serving(**settings) as service:
        host, port = service.url.removeprefix("http://").split(":")
        request = request_of(service)
        opened = [
            await loop.create_connection(lambda: Follower(request), host, int(port))
            for _ in range(STREAMS)
        ]
        followers = [each for _, each in opened]
        await until(lambda: all(each.begun for each in followers))
        began = loop.time()
        for first in range(1, CHANGES + 1, AT_ONCE):
            await asyncio.sleep(began + first / A_SECOND - loop.time())
            # On a machine that is too busy for so many a second, it takes longer.
            await until_told(followers, first - BEHIND)
            await change(connection, first, AT_ONCE)
        await until(lambda: all(each.told[-1:] == [CHANGES] for each in followers))
        assert not any(each.lost or each.forgot for each in followers)
        assert all(each.told == list(range(1, CHANGES + 1)) for each in followers)
        for transport, _ in opened:
            transport.close()
        await until(lambda: all(each.lost for each in followers))


async def until_told(followers: list[Follower], number: int) -> None:
    """Wait until all have been told of the change of this number."""
    await until(lambda: all((each.told or [0])[-1] >= number for each in followers))


@contextmanager
def streams_that_take_nothing(service: Service) -> Iterator[None]:
    request = request_of(service)
    with ExitStack() as stack:
        for _ in range(STREAMS):
            connection = stack.enter_context(service.connect())
            connection.sendall(request)
            assert readable(connection, PATIENCE)
        yield


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_what_100_streams_that_take_nothing_cost_is_bounded(
    settings: dict[str, Any], connection: asyncpg.Connection
) -> None:
    """Also past what the ring keeps, 10,000 changes, and what each may be behind, 1,000."""
    patient: dict[str, Any] = {"request_timeout": 3600, "shutdown_timeout": 1}
    with serving(**settings, **patient) as service, streams_that_take_nothing(service):
        process = service.process.pid
        before = resident(process)
        for number in range(80):
            await change(connection, 1 + number * 900, 900)
            # It hears of each before the next, and has all streams write what they can.
            answer = await asyncio.to_thread(httpx2.get, f"{service.url}/health/live")
            assert answer.status_code == 200
        assert resident(process) - before < MOST_MEMORY
