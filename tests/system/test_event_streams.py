"""Event streams over real sockets: who reads nothing, and shutdowns."""

import asyncio
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.conftest import SECRET
from tests.support.factories import PASSWORD
from tests.support.postgres_programs import libpq_url
from tests.support.processes import (
    PATIENCE,
    SERVE,
    Service,
    command,
    eventually,
    read,
    serving,
)
from tests.support.sockets import readable
from tests.support.streams import parse

EVENTS = (
    "SELECT pg_notify('scopegate_events', 'account-enabled ' || gen_random_uuid()) "
    "FROM generate_series(1, 300)"
)


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with a follower in its database."""
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    await command("user", "create", "alice", "--scope", "read:events", stdin=PASSWORD, **settings)
    return settings


@contextmanager
def stream_of(service: Service) -> Iterator[socket.socket]:
    """A connection that has begun to follow, and takes as little as a connection can."""
    form = {"username": "alice", "password": PASSWORD}
    token = httpx2.post(f"{service.url}/token", data=form).json()["access_token"]
    with service.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(
            b"GET /events HTTP/1.1\r\nHost: scopegate.test\r\nAuthorization: Bearer %b\r\n\r\n"
            % token.encode()
        )
        assert readable(connection, PATIENCE)
        yield connection


def frames_of(answer: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The frames of an answer that ended, without its chunks' sizes."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
    return parse(body)


async def tell_until(database_url: str, enough: Callable[[], bool]) -> None:
    """Commit changes, but never too many at once, until they are enough.

    How many it takes depends on the server: a slow one sends `everything` instead of them.
    """
    connection = await asyncpg.connect(libpq_url(database_url))
    async with asyncio.timeout(PATIENCE):
        while not enough():
            await connection.execute(EVENTS)
            await asyncio.sleep(0.2)
    await connection.close()


def is_reset(connection: socket.socket) -> bool:
    """Whether the server has closed it, though nothing was read from it."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


async def test_a_reader_that_takes_nothing_is_closed(settings: dict[str, Any]) -> None:
    with serving(request_timeout=1, **settings) as service:
        async with httpx2.AsyncClient(base_url=service.url, timeout=PATIENCE) as other:
            with stream_of(service) as connection:
                await tell_until(settings["database_url"], lambda: is_reset(connection))
                assert (await other.get("/health/live")).status_code == 200
        eventually(lambda: "/events" in service.output())


@pytest.mark.parametrize("workers", [1, 2])
def test_at_a_shutdown_the_last_frame_is_bye_and_nothing_waits_for_it(
    settings: dict[str, Any], workers: int
) -> None:
    """It comes when the shutdown begins, and not when the process ends."""
    serve = [*SERVE, "--workers", str(workers)]
    with serving(serve, shutdown_delay=5, **settings) as service:
        with stream_of(service) as connection:
            service.process.terminate()
            frames = frames_of(read(connection))
            assert service.process.poll() is None, "it still serves for the delay"
            assert frames[0][0] == "hello"
            assert frames[-1] == ("bye", {"reason": "draining"})
            assert [name for name, _ in frames].count("bye") == 1
        assert service.process.wait(PATIENCE) == 0
        assert service.complaints() == []


async def test_a_stream_that_is_stuck_holds_no_shutdown_up(settings: dict[str, Any]) -> None:
    patient: dict[str, Any] = {"shutdown_timeout": 3600, "request_timeout": 3600}
    with serving(**patient, **settings) as service, stream_of(service):
        # 8 MB of frames.
        told = iter(range(60))
        await tell_until(settings["database_url"], lambda: next(told, None) is None)
        service.process.terminate()
        assert service.process.wait(PATIENCE) == 0
