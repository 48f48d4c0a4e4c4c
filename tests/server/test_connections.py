"""Hostile clients, as bytes on a socket: what they may send."""

import re
from pathlib import Path

import httpx2
import pytest

from app.server.connections import MAX_CHUNKS, MAX_HEADERS, MAX_PARAMETERS, MAX_URL_BYTES
from tests.support.answers import HARDENING
from tests.support.processes import Service
from tests.support.sockets import FORM_HEAD, HEAD, headers_of, send, status

pytestmark = pytest.mark.system


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


def test_an_offer_to_upgrade_is_not_taken(service: Service) -> None:
    for protocol in (b"websocket", b"h2c"):
        with service.connect() as connection:
            offer = b"Connection: Upgrade, close\r\nUpgrade: " + protocol + b"\r\n\r\n"
            assert status(send(connection, HEAD + offer)) == 200
