"""One request, one answer: whatever a client says about where its request ends, as raw bytes."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.server.connections import PIECE
from tests.conftest import SECRET
from tests.support import databases, framing
from tests.support.factories import PASSWORD
from tests.support.framing import (
    ENDING,
    HIDDEN,
    KEPT,
    LAST,
    Received,
    converse,
    converse_all,
    doubtfully,
    plainly,
    request,
)
from tests.support.processes import Service, command, eventually, serving

pytestmark = pytest.mark.system
CHUNKED_HEAD = request(b"Transfer-Encoding: chunked\r\n")
OFFERS = {name: offer for name, offer in ENDING.items() if b"pgrade" in offer}


@pytest.fixture(scope="module")
async def service(server_url: str, template: None) -> AsyncIterator[Service]:
    """A service that trusts a proxy on this machine, with a user `alice`."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    settings: dict[str, Any] = {"database_url": url, "secret_keys": SECRET}
    await command("user", "create", "alice", stdin=PASSWORD, **settings)
    with serving(**settings, request_timeout=2, trusted_proxies="127.0.0.1") as service:
        yield service
        assert service.process.poll() is None
        service.terminate()
        complaints = [line for line in service.complaints() if "Invalid HTTP" not in line]
        assert complaints == [], service.output()
    await databases.drop(server_url, name)


@pytest.mark.parametrize("connection", {**KEPT, **ENDING}.values(), ids=[*KEPT, *ENDING])
async def test_a_body_is_never_a_request(service: Service, connection: bytes) -> None:
    """The form is read once; behind an offer to upgrade the connection closes."""
    sent = [
        packets
        for headers, body in plainly().values()
        for both in (headers + connection, connection + headers)
        for packets in framing.cuts(request(both, body) + LAST)
    ]
    answers = [400] if connection in ENDING.values() else [400, 200]
    for packets, received in zip(sent, await converse_all(service.url, sent), strict=True):
        assert (received.statuses, received.smuggled) == (answers, False), packets
        assert b"The parameter token is missing" in received.data


async def test_what_two_parsers_may_read_differently_is_refused_and_nothing_behind_it_is_read(
    service: Service,
) -> None:
    sent = [
        packets
        for headers, body in doubtfully().values()
        for connection in (b"", *ENDING.values())
        for packets in list(framing.cuts(request(headers + connection, body) + LAST))[:2]
    ]
    for packets, received in zip(sent, await converse_all(service.url, sent), strict=True):
        # A reset may overtake the refusal.
        assert received.statuses in ([400], []), packets
        assert not received.smuggled, packets


async def test_a_doubtful_transfer_coding_is_refused_before_the_app_acts(service: Service) -> None:
    def started() -> int:
        return service.output().count("route=/revoke ")

    def settled() -> bool:
        """Log lines are written together, a moment later: also those of the tests before."""
        count = started()
        time.sleep(0.2)
        return count > 0 and count == started()

    await converse(service.url, request(b"Connection: close\r\n"))
    eventually(settled)
    before = started()
    codings = [headers for headers, _ in doubtfully().values() if b"Transfer-Encoding" in headers]
    codings = [headers for headers in codings if headers != b"Transfer-Encoding: chunked\r\n"]
    for received in await converse_all(service.url, [[request(each)] for each in codings]):
        # A reset may overtake the refusal.
        assert received.statuses in ([400], [])
    await converse(service.url, request(b"Connection: close\r\n"))
    eventually(lambda: started() > before)
    assert started() == before + 1


@pytest.mark.parametrize("connection", OFFERS.values(), ids=OFFERS)
async def test_without_a_body_an_offer_is_the_last_request(
    service: Service, connection: bytes
) -> None:
    """What follows may be meant for the other protocol, so it is never a request."""
    for packets in framing.cuts(request(connection) + HIDDEN + LAST):
        received = await converse(service.url, *packets)
        assert (received.statuses, received.smuggled) == ([400], False), packets


async def test_an_offer_is_understood_wherever_the_parser_is_interrupted(service: Service) -> None:
    """The service gives its parser a PIECE at a time: each place of the request is once its end."""
    offer = request(OFFERS["h2c"] + b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN)
    filler = request(b"Content-Length: 40000\r\n")
    sent = []
    for place in range(len(offer) + 1):
        body = b"x" * (10 * PIECE - len(filler) - place)
        first = filler.replace(b"40000", b"%05d" % len(body)) + body
        sent.append([first + offer + LAST])
    for place, received in enumerate(await converse_all(service.url, sent)):
        assert (received.statuses, received.smuggled) == ([413, 400], False), place


async def test_offers_one_behind_the_other_are_one_last_request(service: Service) -> None:
    offer = request(OFFERS["h2c"] + b"Content-Length: %d\r\n" % len(HIDDEN), HIDDEN)
    received = await converse(service.url, offer * 10 + LAST)
    assert (received.statuses, received.smuggled) == ([400], False)


@pytest.mark.parametrize(
    "first_line",
    [
        *(b"CONNECT scopegate.test:80 HTTP/1.1", b"CONNECT /revoke HTTP/1.1"),
        *(
            b"POST /revoke HTTP/2.0",
            b"POST /revoke HTTP/0.9",
            b"POST /revoke",
            b"POST /revoke HTTP/1.2",
        ),
        b"PRI * HTTP/2.0",
    ],
)
async def test_tunnels_and_other_versions_are_refused(service: Service, first_line: bytes) -> None:
    length = b"Content-Length: %d\r\n" % len(HIDDEN)
    for headers in (b"", length, length + OFFERS["h2c"]):
        sent = request(headers, HIDDEN, first_line=first_line)
        received = await converse(service.url, sent + LAST)
        assert (received.statuses, received.smuggled) == ([400], False)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    assert (await converse(service.url, preface + LAST)).statuses == [400]


@pytest.mark.parametrize(
    "hosts",
    [b"", b"Host: a.example\r\nHost: b.example\r\n", b"Host: a.example\r\nHost: a.example\r\n"],
    ids=["none", "two", "one twice"],
)
async def test_a_request_has_one_host(service: Service, hosts: bytes) -> None:
    """RFC 9112 §3.2: a proxy may have routed the request by another one than this service sees."""
    received = await converse(service.url, b"GET /health/live HTTP/1.1\r\n" + hosts + b"\r\n")
    assert received.statuses == [400]
    old = b"GET /health/live HTTP/1.0\r\n\r\n"
    assert (await converse(service.url, old)).statuses == [200], "that version knows no Host"


async def test_http_1_0_is_closed_and_gets_no_interim_answer(service: Service) -> None:
    length = b"Content-Length: %d\r\n" % len(HIDDEN)
    old = b"POST /revoke HTTP/1.0"
    for headers in (b"Expect: 100-continue\r\n", b"Connection: keep-alive\r\n", OFFERS["h2c"]):
        sent = request(headers + length, HIDDEN, first_line=old)
        received = await converse(service.url, sent + LAST)
        assert (received.statuses, received.smuggled) == ([400], False)
        assert b"100 Continue" not in received.data
    chunked = request(b"Transfer-Encoding: chunked\r\n", framing.chunked(HIDDEN), first_line=old)
    assert b"parameter" not in (await converse(service.url, chunked)).data


async def test_a_trailer_is_not_a_header(service: Service) -> None:
    """A proxy replaces these headers, and does not look into trailers."""
    trailer = b"X-Request-Id: from-a-trailer\r\n\r\n"
    body = framing.chunked(HIDDEN).removesuffix(b"\r\n") + trailer
    received = await converse(
        service.url, request(b"Transfer-Encoding: chunked\r\nConnection: close\r\n", body)
    )
    assert received.statuses == [400]
    assert b"from-a-trailer" not in received.data
    given = request(b"Connection: close\r\nX-Request-Id: from-the-proxy\r\n")
    assert b"from-the-proxy" in (await converse(service.url, given)).data


async def answer_begun(
    service: Service, sent: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Send this; return the connection when an answer has come."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    return reader, writer, await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("first_line", "status"),
    [
        (b"POST /nowhere HTTP/1.1", 404),
        (b"PUT /health/live HTTP/1.1", 405),
        (b"GET /users/me HTTP/1.1", 401),
    ],
)
async def test_the_body_of_a_request_that_was_answered_early_is_never_a_request(
    service: Service, first_line: bytes, status: int
) -> None:
    for headers, body in plainly().values():
        sent = request(headers, first_line=first_line)
        reader, writer, head = await answer_begun(service, sent)
        writer.write(body + LAST)
        received = Received(head + await reader.read())
        writer.close()
        assert received.statuses == [status, 200]
        assert not received.smuggled


@pytest.mark.parametrize("end", [b"z", b"0\r\nX: " + b"x" * 40_000, b"0\r\nX\r\n"])
async def test_a_request_gets_one_answer_when_its_body_goes_wrong_behind_it(
    service: Service, end: bytes
) -> None:
    sent = CHUNKED_HEAD.replace(b"/revoke", b"/nowhere") + b"1\r\na\r\n"
    reader, writer, head = await answer_begun(service, sent)
    writer.write(end)
    try:
        rest = await reader.read()
    except ConnectionError:
        rest = b""
    writer.close()
    assert Received(head + rest).statuses == [404]


async def test_a_client_that_was_not_told_to_continue_sends_no_other_request(
    service: Service,
) -> None:
    """It may leave the body out, so what comes next is part of it, or not: nothing is answered."""
    expecting = b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(HIDDEN)
    sent = request(expecting, first_line=b"POST /nowhere HTTP/1.1")
    for behind in (HIDDEN, HIDDEN + LAST, LAST * 2):
        reader, writer, head = await answer_begun(service, sent)
        assert b"connection: close" in head
        writer.write(behind)
        received = Received(head + await reader.read())
        writer.close()
        assert (received.statuses, received.smuggled) == ([404], False)


def curl(*arguments: str) -> str:
    """Return the status that curl gets."""
    told = ["curl", "-sS", "--max-time", "60", "-o", os.devnull, "-w", "%{http_code}"]
    return subprocess.run([*told, *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("curl") and not os.environ.get("CI"), reason="no curl")
def test_curl_signs_in_while_it_offers_http2(service: Service, tmp_path: Path) -> None:
    form = f"username=alice&password={PASSWORD}"
    assert curl("--http2", "-d", form, f"{service.url}/token") == "200"
    assert curl("--http2", f"{service.url}/health/live") == "200"


@pytest.mark.skipif(not shutil.which("curl") and not os.environ.get("CI"), reason="no curl")
@pytest.mark.parametrize("options", [["--http2"], ["-H", "Connection: close"], []])
def test_a_client_gets_its_refusal_although_it_has_not_sent_all(
    service: Service, tmp_path: Path, options: list[str]
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 20_000_000)
    for _ in range(5):
        assert curl(*options, "--data-binary", f"@{large}", f"{service.url}/token") == "413"


@pytest.mark.skipif(not shutil.which("java"), reason="no Java")
def test_javas_own_client_signs_in(service: Service) -> None:
    """It offers HTTP/2 in its first request to plain HTTP."""
    program = Path(__file__).with_name("SignIn.java")
    form = f"username=alice&password={PASSWORD}"
    arguments = ["java", str(program), f"{service.url}/token", form]
    told = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        assert json.loads(line)["token_type"] == "bearer"
    assert len(told.splitlines()) == 2
