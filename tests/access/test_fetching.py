"""What is asked of a host whose document is fetched, and what is taken of its answer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from app.access import fetching
from app.access.fetching import MOST_BYTES, Fetched, NotFetched, TooLarge, fetch


@dataclass
class Host:
    """A host that answers all with the same bytes, and what it was asked."""

    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Plain\r\nContent-Length: 2\r\n\r\n{}"
    address: str = "127.0.0.1"
    port: int = 0
    asked: list[str] = field(default_factory=list)


@asynccontextmanager
async def answering(host: Host) -> AsyncIterator[Host]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(host.answer)
        writer.close()

    server = await asyncio.start_server(answer, host.address, 0)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host


async def get(host: Host, path: str = "/") -> Fetched:
    url = urlsplit(f"http://{host.address}:{host.port}{path}")
    return await fetch(url, ssl.create_default_context(), privately=True)


@pytest.mark.parametrize(
    ("path", "target"), [("", "/"), ("/a/b", "/a/b"), ("/a?b=c&d", "/a?b=c&d"), ("?b", "/?b")]
)
async def test_the_request_says_what_is_wanted_and_no_more(path: str, target: str) -> None:
    async with answering(Host()) as host:
        fetched = await get(host, path)
    assert fetched == Fetched(b"{}", {"content-type": "Text/Plain", "content-length": "2"})
    (asked,) = host.asked
    assert asked.split("\r\n") == [
        f"GET {target} HTTP/1.1",
        f"Host: 127.0.0.1:{host.port}",
        "Accept: application/json",
        "User-Agent: scopegate",
        "Connection: close",
        *("", ""),
    ]


async def test_a_document_may_have_as_many_bytes_as_are_taken_and_not_one_more() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    async with answering(Host(head % MOST_BYTES + b"x" * MOST_BYTES)) as host:
        assert (await get(host)).body == b"x" * MOST_BYTES
    too_many = MOST_BYTES + 1
    async with answering(Host(head % too_many + b"x" * too_many)) as host:
        with pytest.raises(TooLarge):
            await get(host)


async def test_hints_that_come_before_the_answer_are_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with answering(Host(early + Host.answer)) as host:
        assert (await get(host)).body == b"{}"


async def test_an_answer_that_ends_too_early_is_none() -> None:
    async with answering(Host(Host.answer[:-1])) as host:
        with pytest.raises(NotFetched):
            await get(host)


async def test_by_itself_it_asks_nothing_of_a_private_network() -> None:
    async with answering(Host()) as host:
        url = urlsplit(f"http://127.0.0.1:{host.port}/")
        with pytest.raises(NotFetched):
            await fetch(url, ssl.create_default_context())
    assert host.asked == []


async def test_the_address_of_the_host_is_connected_to() -> None:
    async with answering(Host(address="127.0.0.2")) as host:
        assert (await get(host)).body == b"{}"


async def test_where_too_many_names_are_looked_up_another_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        def acquire(self, *, blocking: bool) -> bool:
            assert not blocking, "the event loop would stand still"
            return False

    monkeypatch.setattr(fetching, "_lookups", Full())
    with pytest.raises(NotFetched):
        await get(Host(port=80))
