"""Hostile clients, as bytes on a socket: what they may send, how long it may take, how many fit."""

import json
import re
import select
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.access.authority import OPERATOR
from app.identity.models import User
from app.runtime import Runtime
from app.server.connections import MAX_CHUNKS, MAX_HEADERS, MAX_PARAMETERS, MAX_URL_BYTES
from tests import databases
from tests.api.test_middleware import HARDENING
from tests.conftest import SECRET, settings_for
from tests.factories import PASSWORD, make_user
from tests.processes import PATIENCE, Service, command, eventually, read, serving

pytestmark = pytest.mark.system
HEAD = b"GET /health/live HTTP/1.1\r\nHost: scopegate.test\r\n"
FORM_HEAD = (
    b"POST /token HTTP/1.1\r\nHost: scopegate.test\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
)
HALF_A_FORM = FORM_HEAD + b"Content-Length: 100\r\n\r\na=b"
ASSET = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: scopegate.test\r\n\r\n"
# Wrong for every password, and two seconds' work to find that out.
SLOW_HASH = "$2b$15$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"


@pytest.fixture(scope="module")
async def service(server_url: str, template: None) -> AsyncIterator[Service]:
    """A service that soon loses its patience."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    with serving(database_url=url, secret_keys=SECRET, request_timeout=1, hsts=60) as service:
        yield service
        assert service.process.poll() is None
        service.terminate()
        complaints = [line for line in service.complaints() if "Invalid HTTP" not in line]
        assert complaints == [], service.output()
    await databases.drop(server_url, name)


def send(connection: socket.socket, *blocks: bytes) -> bytes:
    """Send as much as is taken; all that comes back until the server closes."""
    try:
        for block in blocks:
            connection.sendall(block)
    except ConnectionError:
        pass
    return read(connection)


def readable(connection: socket.socket, seconds: float = 0.0) -> bool:
    """Whether there is something to read, or comes within so many seconds."""
    return bool(select.select([connection], [], [], seconds)[0])


def status(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


def test_a_head_of_ordinary_size_is_read_however_it_is_cut(service: Service) -> None:
    rest = HEAD + b"X: " + b"x" * 15_000 + b"\r\nConnection: close\r\n\r\n"
    with service.connect() as connection:
        assert (
            status(send(connection, *(rest[i : i + 1000] for i in range(0, 16_000, 1000)))) == 200
        )


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X: " + b"x" * 17_000 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 5500 + b"\r\n",
        HEAD + b"X: " + b"x" * 50_000_000,
        b"GET /" + b"x" * 50_000_000,
        b"\r\n" * 20_000,
    ],
    ids=["a header", "many headers", "a huge header", "a huge request line", "empty lines"],
)
def test_a_head_that_is_too_large_is_431_and_is_not_kept(service: Service, head: bytes) -> None:
    with service.connect() as connection:
        answer = send(connection, head)
    assert answer == b"" or status(answer) == 431
    with service.connect() as connection:
        assert status(send(connection, head[:40_000])) in {431, 0}
    assert memory_of(service) < 500_000_000


def headers_of(answer: bytes) -> Message:
    """What stands in the only answer's head."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"HTTP/1.1" not in rest
    return message_from_bytes(head.partition(b"\r\n")[2])


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (HEAD + b"X: " + b"x" * 17_000, 431),
        (b"FOO / HTTP/1.1\r\n\r\n", 400),
        (FORM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\nz", 400),
    ],
    ids=["too large a head", "no HTTP", "no chunk"],
)
def test_what_never_becomes_a_request_is_answered_in_the_form_of_all_else(
    service: Service, sent: bytes, refused: int
) -> None:
    with service.connect() as connection:
        answer = send(connection, sent)
    given = httpx2.get(f"{service.url}/health/live").headers
    assert status(answer) == refused
    refusal = headers_of(answer)
    assert (refusal["connection"], refusal["content-length"]) == ("close", "0")
    assert re.fullmatch("[0-9a-f]{32}", refusal["x-request-id"])
    constant = ["strict-transport-security", "content-security-policy", *HARDENING]
    for name in constant:
        assert refusal.get_all(name) == [given[name]]


def test_what_is_no_http_gets_no_answer_in_the_place_of_the_request_before_it(
    service: Service,
) -> None:
    with service.connect() as connection:
        answer = send(connection, HEAD + b"\r\nFOO / HTTP/1.1\r\n\r\n")
    assert answer == b""


def memory_of(service: Service) -> int:
    """The most that the process ever held, in bytes."""
    told = Path(f"/proc/{service.process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", told)
    return int(kilobytes) * 1024


def test_endless_trailers_and_chunk_extensions_are_cut_off(service: Service) -> None:
    chunked = FORM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n"
    for begun in (b"0\r\nX: ", b"1;x="):
        with service.connect() as connection, pytest.raises(ConnectionError):
            connection.sendall(chunked + begun + b"x" * 20_000_000)


URL_OF = "/health/live?"


@pytest.mark.parametrize(
    ("url", "headers", "expected"),
    [
        (URL_OF + "a&" * (MAX_PARAMETERS - 1), 0, 200),
        (URL_OF + "a&" * MAX_PARAMETERS, 0, 414),
        (URL_OF + "a" * (MAX_URL_BYTES - len(URL_OF)), 0, 200),
        (URL_OF + "a" * (MAX_URL_BYTES - len(URL_OF) + 1), 0, 414),
        ("/" + "%41" * 1400, 0, 414),
        ("http://scopegate.test/health/live?" + "a" * MAX_URL_BYTES, 0, 414),
        ("/health/live", MAX_HEADERS - 2, 200),
        ("/health/live", MAX_HEADERS - 1, 431),
        ("/health/live", 2000, 431),
    ],
    ids=lambda value: str(value)[:16],
)
def test_what_no_route_has_a_use_for_is_refused_before_it_is_taken_apart(
    service: Service, url: str, headers: int, expected: int
) -> None:
    usual = "Host: scopegate.test\r\nConnection: close\r\n"
    more = "".join(f"{number:x}:\r\n" for number in range(headers))
    with service.connect() as connection:
        answer = send(connection, f"GET {url} HTTP/1.1\r\n{usual}{more}\r\n".encode())
    assert status(answer) == expected
    assert headers_of(answer)["connection"] == "close"


@pytest.mark.parametrize(("chunks", "expected"), [(MAX_CHUNKS - 1, 400), (3 * MAX_CHUNKS, 431)])
def test_a_body_may_come_in_many_chunks_but_not_in_ever_more(
    service: Service, chunks: int, expected: int
) -> None:
    form = b"grant_type=".ljust(chunks, b"x")
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in form) + b"0\r\n\r\n"
    with service.connect() as connection:
        head = FORM_HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = send(connection, head + body)
    assert status(answer) == expected
    assert (b"unsupported_grant_type" in answer) == (expected == 400)


def test_endless_pipelining_is_cut_off(service: Service) -> None:
    with service.connect() as connection:
        a_few = send(connection, (HEAD + b"\r\n") * 4 + HEAD + b"Connection: close\r\n\r\n")
        assert a_few.count(b"200 OK") == 5
    with service.connect() as connection:
        assert send(connection, (HEAD + b"\r\n") * 1000).count(b"200 OK") < 20


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


def test_an_offer_to_upgrade_is_not_taken(service: Service) -> None:
    for protocol in (b"websocket", b"h2c"):
        with service.connect() as connection:
            offer = b"Connection: Upgrade, close\r\nUpgrade: " + protocol + b"\r\n\r\n"
            assert status(send(connection, HEAD + offer)) == 200


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
        slow_one = await make_user(runtime, username="slow")
        async with runtime.work(OPERATOR) as work:
            slower = update(User).where(User.id == slow_one.id).values(password_hash=SLOW_HASH)
            await work.db.execute(slower)
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
