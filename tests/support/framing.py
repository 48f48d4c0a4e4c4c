"""Requests whose end two parsers may see at different places, and what comes back on a socket."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.processes import PATIENCE

HIDDEN = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: scopegate.test\r\n\r\n"
"""The body of a request, which looks like a request: to answer it is the fault."""
ANSWER_TO_HIDDEN = b'"keys"'
HIDDEN_IN_LOG = "route=/.well-known/jwks.json "
LAST = b"GET /health/live HTTP/1.1\r\nHost: scopegate.test\r\nConnection: close\r\n\r\n"
Declared = dict[str, tuple[bytes, bytes]]
"""Headers that say where a body ends, and that body as it is sent."""


def chunked(body: bytes) -> bytes:
    """Return the body as one chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def plainly(body: bytes = HIDDEN) -> Declared:
    """Return the ways to declare this body that have one meaning."""
    length, chunks = b"%d" % len(body), chunked(body)
    return {
        "length": (b"Content-Length: " + length + b"\r\n", body),
        "padded length": (b"Content-Length:\t " + length + b" \r\n", body),
        "length with zeros": (b"content-length: 00" + length + b"\r\n", body),
        "chunked": (b"Transfer-Encoding: chunked\r\n", chunks),
        "chunked in capitals": (b"TRANSFER-ENCODING: CHUNKED \r\n", chunks),
        "chunk extensions": (
            b"Transfer-Encoding: chunked\r\n",
            chunks.replace(b"\r\n", b';a;b="c;d"\r\n', 1),
        ),
        "trailers": (
            b"Transfer-Encoding: chunked\r\nTrailer: Upgrade\r\n",
            chunks.removesuffix(b"\r\n") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ),
    }


def doubtfully(body: bytes = HIDDEN) -> Declared:
    """Return the ways to declare it that two parsers may read differently.

    A server must refuse such a request, and close.
    """
    length, chunks = b"%d" % len(body), chunked(body)
    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    return {
        "both": (b"Transfer-Encoding: chunked\r\nContent-Length: " + length + b"\r\n", chunks),
        "both, length first": (both, chunks),
        "length 0 and chunked": (both.replace(b"5", b"0"), chunks),
        "two lengths": (b"Content-Length: 0\r\nContent-Length: " + length + b"\r\n", body),
        "a length twice": ((b"Content-Length: " + length + b"\r\n") * 2, body),
        "two lengths in one": (b"Content-Length: " + length + b", " + length + b"\r\n", body),
        "a length too large": (b"Content-Length: 18446744073709551617\r\n", body),
        "no length": (b"Content-Length:\r\n", body),
        "obs-fold before a length": (b"Content-Length:\r\n " + length + b"\r\n", body),
        "obs-fold in another header": (b"X: y\r\n Content-Length: " + length + b"\r\n", body),
        "obs-fold before chunked": (b"Transfer-Encoding:\r\n\tchunked\r\n", chunks),
        "obs-fold behind chunked": (b"Transfer-Encoding: chunked\r\n , identity\r\n", chunks),
        "space before the colon": (b"Content-Length : " + length + b"\r\n", body),
        "space before the name": (b" Content-Length: " + length + b"\r\n", body),
        "a line with no colon": (b"Content-Length\r\n", body),
        "a line with no name": (b": x\r\nContent-Length: " + length + b"\r\n", body),
        "NUL in a name": (b"Content-Length\0: " + length + b"\r\n", body),
        "NUL in a value": (b"X: y\0\r\nContent-Length: " + length + b"\r\n", body),
        "lone LF": (b"X: y\nContent-Length: " + length + b"\r\n", body),
        "lone LF at the head's end": (b"Content-Length: " + length + b"\r\n\n" + body, b""),
        "bare CR": (b"X: y\rContent-Length: " + length + b"\r\n", body),
        "two CR": (b"Content-Length: " + length + b"\r\r\n", body),
        "two codings": (b"Transfer-Encoding: chunked, chunked\r\n", chunks),
        "a coding twice": (b"Transfer-Encoding: chunked\r\n" * 2, chunks),
        "two coding headers": (b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", chunks),
        "chunked is not last": (b"Transfer-Encoding: chunked, identity\r\n", chunks),
        "gzip and chunked": (b"Transfer-Encoding: gzip, chunked\r\n", chunks),
        "identity and chunked": (b"Transfer-Encoding: identity, chunked\r\n", chunks),
        "a comma and chunked": (b"Transfer-Encoding: ,chunked\r\n", chunks),
        **{
            f"length {sign.decode()!r}": (b"Content-Length: " + sign + length + b"\r\n", body)
            for sign in (b"+", b"-", b"0x", b"1_", b"\x0b", b'"')
        },
        **{
            f"coding {coding.decode()!r}": (b"Transfer-Encoding: " + coding + b"\r\n", chunks)
            for coding in (
                b"identity",
                b"xchunked",
                b"chunkedx",
                b"chunked;q=1",
                b"",
                b"\x0bchunked",
            )
        },
        **{
            f"chunk {begun.decode()!r}": (b"Transfer-Encoding: chunked\r\n", begun + body + body)
            for begun in (
                *(b"+5\r\n", b"0x5\r\n", b" 5\r\n", b"5 \r\n", b"5\n", b"5\r", b"\r\n", b"-1\r\n"),
                *(
                    b"5;a\nb\r\n",
                    b'5;a="\r\n',
                    b"5;\n",
                    b"10000000000000000\r\n",
                    b"1\r\naX",
                    b"1\r\na\n",
                ),
                *(
                    b"0\n\r\n",
                    b"0\r\n\n",
                    b"0\r\n\r",
                    b"0\r\nX: y\n\r\n",
                    b"0\r\nContent-Length: 3\r\n\r\n",
                ),
                *(b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX:\r\n y\r\n\r\n"),
            )
        },
    }


KEPT = {
    "nothing": b"",
    "an upgrade that Connection does not name": b"Upgrade: h2c\r\n",
    "an upgrade to nothing": b"Connection: Upgrade\r\nUpgrade:\r\n",
    "Connection that names an upgrade": b"Connection: Upgrade\r\n",
    "keep-alive": b"Connection: keep-alive\r\nKeep-Alive: timeout=60\r\n",
    "trailers asked for": b"TE: trailers\r\nConnection: TE\r\n",
    "names nominated": b"Connection: Content-Length, Transfer-Encoding\r\n",
}
"""Headers about the connection behind which it goes on."""

ENDING = {
    "h2c": (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    ),
    "websocket": (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    ),
    "anything": b"Connection: Upgrade\r\nUpgrade: anything\r\n",
    "capitals": b"CONNECTION: UPGRADE\r\nUPGRADE: H2C\r\n",
    "among others": b"Connection: keep-alive, upgrade ,x\r\nUpgrade: a/1, b\r\n",
    "named twice": b"Connection: x\r\nUpgrade: a\r\nConnection: upgrade\r\nUpgrade: b\r\n",
    "with close": b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n",
    "by Proxy-Connection": b"Proxy-Connection: upgrade\r\nUpgrade: h2c\r\n",
    "with Expect": b"Connection: Upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n",
    "Expect": b"Expect: 100-continue\r\n",
    "close": b"Connection: close\r\n",
}
"""Headers with which a request is the last on its connection."""


@dataclass(frozen=True)
class Received:
    """All that came back on a connection."""

    data: bytes

    @property
    def statuses(self) -> list[int]:
        """The answers' statuses, without "100 Continue"."""
        found = [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3})", self.data)]
        return [code for code in found if code != 100]

    @property
    def smuggled(self) -> bool:
        """Whether what was hidden in a body got an answer."""
        return ANSWER_TO_HIDDEN in self.data


def request(headers: bytes, body: bytes = b"", *, first_line: bytes = b"") -> bytes:
    """Return a request for a form, which gets a 400 that tells that the form was read."""
    return (
        (first_line or b"POST /revoke HTTP/1.1")
        + b"\r\nHost: scopegate.test\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        + headers
        + b"\r\n"
        + body
    )


def cuts(sent: bytes) -> Iterator[list[bytes]]:
    """Yield the ways to cut what is sent into packets."""
    head = sent.index(b"\r\n\r\n") + 4
    yield [sent]
    yield [sent[:head], sent[head:]]
    yield [sent[: head - 3], sent[head - 3 :]]
    yield [sent[: head + 20], sent[head + 20 :]]
    yield [sent[place : place + 1] for place in range(len(sent))]


async def converse(url: str, *packets: bytes, answers: int | None = None) -> Received:
    """Send these packets on one connection; return what comes until the server closes.

    The client closes earlier when it has got so many answers.
    """
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    received = b""
    # Not asyncio's streams: when they can't send, they lose what they have received.
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                for packet in packets:
                    await loop.sock_sendall(connection, packet)
                    await asyncio.sleep(0)
            with suppress(ConnectionError):
                while block := await loop.sock_recv(connection, 65536):
                    received += block
                    if len(Received(received).statuses) == answers:
                        break
    return Received(received)


async def converse_all(url: str, conversations: list[list[bytes]]) -> list[Received]:
    """Have these conversations, twenty at once."""
    slots = asyncio.Semaphore(20)

    async def one(packets: list[bytes]) -> Received:
        async with slots:
            return await converse(url, *packets)

    return await asyncio.gather(*map(one, conversations))
