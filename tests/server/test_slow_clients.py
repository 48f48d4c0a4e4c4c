"""Clients that don't finish, don't take their answers, or go; and how many of them fit."""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.identity.models import User
from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support.factories import OPERATOR, PASSWORD, make_user
from tests.support.processes import PATIENCE, Service, command, eventually, read, serving
from tests.support.sockets import FORM_HEAD, HALF_A_FORM, HEAD, readable, status

pytestmark = pytest.mark.system
ASSET = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: scopegate.test\r\n\r\n"
# Wrong for every password, and two seconds' work to find that out.
SLOW_HASH = "$2b$15$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", HEAD, HALF_A_FORM],
    ids=["nothing", "an empty line", "half a head", "half a body"],
)
def test_a_client_that_does_not_finish_is_closed_while_others_are_served(
    service: Service, sent: bytes
) -> None:
    with service.connect() as connection, httpx2.Client(base_url=service.url) as other:
        connection.sendall(sent)

        def is_closed() -> bool:
            assert other.get("/health/live").status_code == 200
            return readable(connection)

        eventually(is_closed)
        assert read(connection) == b""


@pytest.mark.parametrize(
    "whole", [HEAD + b"\r\n", ASSET * 5], ids=["one", "more than is taken at once"]
)
def test_half_a_request_behind_whole_ones_in_one_segment_is_closed(
    service: Service, whole: bytes
) -> None:
    with service.connect() as connection:
        connection.sendall(whole + HALF_A_FORM)
        # Until more is answered than anybody keeps: writing must have been paused once.
        time.sleep(0.3)
        assert status(read(connection)) == 200


@pytest.mark.parametrize("pause", [0, 0.05], ids=["at once", "one by one"])
def test_a_client_that_does_not_take_its_answers_is_closed(service: Service, pause: float) -> None:
    with service.connect() as connection:
        for _ in range(10):
            connection.sendall(ASSET)
            time.sleep(pause)
        reset = select.poll()
        reset.register(connection, 0)
        assert reset.poll(PATIENCE * 1000), "closed although nothing was read"


def test_a_client_that_goes_while_it_sends_its_body_is_no_error(service: Service) -> None:
    """What the process has said by its end is looked at in the fixture."""
    for head in (FORM_HEAD, FORM_HEAD.replace(b"POST /token", b"PATCH /users/me")):
        with service.connect() as connection:
            connection.sendall(head + b"Content-Length: 100\r\n\r\na=b")


@contextmanager
def idle(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that ask for nothing."""
    connections = [service.connect() for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def test_past_the_connections_that_fit_503_and_the_process_counts_as_alive(
    own_database_url: str,
) -> None:
    settings: dict[str, Any] = {"max_connections": 5, "request_timeout": 600}
    with serving(database_url=own_database_url, secret_keys=SECRET, **settings) as service:
        with idle(service, 5):
            eventually(lambda: httpx2.get(f"{service.url}/openapi.json").status_code == 503)
            refused = httpx2.get(f"{service.url}/users/me")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["connection"] == "close"
            assert "detail" in refused.json()
            login = httpx2.post(f"{service.url}/token", data={"username": "a", "password": "b"})
            assert login.status_code == 503
            assert login.json()["error"] == "temporarily_unavailable"
            assert login.headers["cache-control"] == "no-store"
            assert httpx2.get(f"{service.url}/health/live").status_code == 200
            with idle(service, 6) as more:
                assert readable(more[-1], PATIENCE)
                assert read(more[-1]) == b"", "past twice as many, not even an answer"
        eventually(lambda: httpx2.get(f"{service.url}/openapi.json").status_code == 200)


def post_login(service: Service, username: str, password: str) -> socket.socket:
    connection = service.connect()
    body = f"username={username}&password={password}".encode()
    head = FORM_HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.sendall(head + body)
    return connection


async def test_a_login_that_hangs_up_in_the_queue_makes_room_and_is_never_hashed(
    own_database_url: str,
) -> None:
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    await command("user", "create", "alice", stdin=PASSWORD, **settings)
    async with Runtime.open(settings_for(own_database_url)) as runtime:
        await make_user(runtime, username="slow")
        async with runtime.work(OPERATOR) as work:
            await work.db.execute(update(User).values(password_hash=SLOW_HASH))
    with (
        serving(hash_threads=1, hash_queue=2, **settings) as service,
        ExitStack() as open_connections,
    ):

        def log_in(username: str) -> socket.socket:
            return open_connections.enter_context(post_login(service, username, "wrong"))

        slow = log_in("slow")
        waiting, hashed = [], 0
        while True:
            login = log_in("alice")
            if not readable(login, 0.3):
                waiting.append(login)
            elif status(read(login)) == 503:
                break
            else:
                hashed += 1
        assert len(waiting) == 2, "the queue is full"
        for login in waiting:
            login.close()
        while readable(login := log_in("alice"), 0.1):
            assert status(read(login)) == 503
            assert not readable(slow), "room was made at once, not when the thread was free"
        assert not readable(slow), "the thread is still at it"
        assert [status(read(each)) for each in (slow, login)] == [400, 400]
        shown = await command("audit", "--user", "alice", "--json", **settings)
    entries = map(json.loads, shown.splitlines())
    failed = [entry for entry in entries if entry["action"] == "login.failed"]
    assert len(failed) == hashed + 1
