"""Requests whose end two parsers may see at different places, and what comes back on a socket."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.processes import PATIENCE

HIDDEN = b"GET /health/ready HTTP/1.1\r\nHost: scopegate.test\r\n\r\n"
"""The body of a request, which looks like a request: to answer it is the fault."""
ANSWER_TO_HIDDEN = b'"checks"'
LAST = b"GET /health/live HTTP/1.1\r\nHost: scopegate.test\r\nConnection: close\r\n\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
LENGTH = b"%d" % len(HIDDEN)

BOTH_WAYS = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
BODIES = {
    "length": (b"Content-Length: " + LENGTH + b"\r\n", HIDDEN),
    "padded length": (b"Content-Length:\t " + LENGTH + b" \r\n", HIDDEN),
    "length with zeros": (b"content-length: 00" + LENGTH + b"\r\n", HIDDEN),
    "chunked": (b"Transfer-Encoding: chunked\r\n", CHUNKED),
    "chunked in capitals": (b"TRANSFER-ENCODING: CHUNKED \r\n", CHUNKED),
    "chunk extensions": (
        b"Transfer-Encoding: chunked\r\n",
        CHUNKED.replace(b"\r\n", b';a;b="c;d"\r\n', 1),
    ),
    "trailers": (
        b"Transfer-Encoding: chunked\r\nTrailer: Upgrade\r\n",
        CHUNKED.removesuffix(b"\r\n") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ),
}
"""Ways to say where a body ends that have one meaning: headers, and `HIDDEN` as that body."""

DOUBTFUL = {
    "both": (b"Transfer-Encoding: chunked\r\nContent-Length: " + LENGTH + b"\r\n", CHUNKED),
    "both, length first": (BOTH_WAYS, CHUNKED),
    "length 0 and chunked": (BOTH_WAYS.replace(b"5", b"0"), CHUNKED),
    "two lengths": (b"Content-Length: 0\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "a length twice": ((b"Content-Length: " + LENGTH + b"\r\n") * 2, HIDDEN),
    "two lengths in one": (b"Content-Length: " + LENGTH + b", " + LENGTH + b"\r\n", HIDDEN),
    "a length too large": (b"Content-Length: 18446744073709551617\r\n", HIDDEN),
    "no length": (b"Content-Length:\r\n", HIDDEN),
    "obs-fold before a length": (b"Content-Length:\r\n " + LENGTH + b"\r\n", HIDDEN),
    "obs-fold in another header": (b"X: y\r\n Content-Length: " + LENGTH + b"\r\n", HIDDEN),
    "obs-fold before chunked": (b"Transfer-Encoding:\r\n\tchunked\r\n", CHUNKED),
    "obs-fold behind chunked": (b"Transfer-Encoding: chunked\r\n , identity\r\n", CHUNKED),
    "space before the colon": (b"Content-Length : " + LENGTH + b"\r\n", HIDDEN),
    "space before the name": (b" Content-Length: " + LENGTH + b"\r\n", HIDDEN),
    "a line with no colon": (b"Content-Length\r\n", HIDDEN),
    "a line with no name": (b": x\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "NUL in a name": (b"Content-Length\0: " + LENGTH + b"\r\n", HIDDEN),
    "NUL in a value": (b"X: y\0\r\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "lone LF": (b"X: y\nContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "lone LF at the head's end": (b"Content-Length: " + LENGTH + b"\r\n\n" + HIDDEN, b""),
    "bare CR": (b"X: y\rContent-Length: " + LENGTH + b"\r\n", HIDDEN),
    "two CR": (b"Content-Length: " + LENGTH + b"\r\r\n", HIDDEN),
    "two codings": (b"Transfer-Encoding: chunked, chunked\r\n", CHUNKED),
    "a coding twice": (b"Transfer-Encoding: chunked\r\n" * 2, CHUNKED),
    "two coding headers": (b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
    "chunked is not last": (b"Transfer-Encoding: chunked, identity\r\n", CHUNKED),
    "gzip and chunked": (b"Transfer-Encoding: gzip, chunked\r\n", CHUNKED),
    "identity and chunked": (b"Transfer-Encoding: identity, chunked\r\n", CHUNKED),
    "a comma and chunked": (b"Transfer-Encoding: ,chunked\r\n", CHUNKED),
    **{
        f"length {sign.decode()!r}": (b"Content-Length: " + sign + LENGTH + b"\r\n", HIDDEN)
        for sign in (b"+", b"-", b"0x", b"1_", b"\x0b", b'"')
    },
    **{
        f"coding {coding.decode()!r}": (b"Transfer-Encoding: " + coding + b"\r\n", CHUNKED)
        for coding in (b"identity", b"xchunked", b"chunkedx", b"chunked;q=1", b"", b"\x0bchunked")
    },
    **{
        f"chunk {begun.decode()!r}": (b"Transfer-Encoding: chunked\r\n", begun + HIDDEN + HIDDEN)
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
"""Ways that two parsers may read differently: such a request must get a refusal, and end all."""

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


async def converse(url: str, *packets: bytes) -> Received:
    """Send these packets on one connection; return what comes until the server closes."""
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
    return Received(received)
