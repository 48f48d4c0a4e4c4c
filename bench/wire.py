"""HTTP/1.1 with as little of the client's own work as possible: prebuilt bytes, kept connections.

What measures must cost less than what is measured: there are no redirects, cookies or chunked
bodies here, and every connection has one request in flight.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode

from bench.errors import BenchmarkFailed

HOST = "127.0.0.1"  # nothing is ever sent to another machine
PATIENCE = 30.0  # seconds, until a server counts as hanging


class NotUnderstood(BenchmarkFailed):
    """The server's answer is not of the plain kind that this client reads."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


def request(
    path: str,
    *,
    method: str = "GET",
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    document: Mapping[str, object] | None = None,
) -> bytes:
    """The bytes of a request; built once, they can be sent any number of times."""
    fields = {"Host": HOST, "Accept": "application/json", **(headers or {})}
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    body = b""
    if form is not None:
        body = urlencode(form).encode()
        fields["Content-Type"] = "application/x-www-form-urlencoded"
    elif document is not None:
        body = json.dumps(document).encode()
        fields["Content-Type"] = "application/json"
    if form is not None or document is not None:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask_once(port: int, raw: bytes) -> Answer:
    """The answer to one request on a connection of its own. Raises as `Connection.ask` does."""
    connection = await Connection.open(port)
    try:
        async with asyncio.timeout(PATIENCE):
            return await connection.ask(raw)
    finally:
        connection.close()


class Connection(asyncio.Protocol):
    """A kept connection. `ask` one thing at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """A connection to whatever listens on that port of this machine."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, HOST, port)
        return connection

    async def ask(self, raw: bytes) -> Answer:
        """Send the request and return its answer.

        Raises ConnectionError when the server hangs up, NotUnderstood for a chunked answer.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the server has closed the connection")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._waiting

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: the connection is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        """Asyncio's: some bytes of the answer, perhaps not all."""
        self._received += data
        try:
            answer = read_answer(self._received)
        except NotUnderstood as error:
            self._settle(error)
            return
        if answer is not None:
            self._received = b""
            self._settle(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's: the server hung up, or we did."""
        self._settle(ConnectionResetError(f"the server hung up: {exc}"))

    def _settle(self, outcome: Answer | Exception) -> None:
        if self._waiting is None or self._waiting.done():
            return
        if isinstance(outcome, Answer):
            self._waiting.set_result(outcome)
        else:
            self._waiting.set_exception(outcome)


def read_answer(received: bytes) -> Answer | None:
    """The answer that these bytes are; None while some of it is missing. Raises NotUnderstood."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    status = int(received[9:12])
    length = _content_length(received[:end], status)
    start = end + 4
    if len(received) < start + length:
        return None
    return Answer(status, received[start : start + length])


def _content_length(head: bytes, status: int) -> int:
    head = head.lower()
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if found:
        return int(rest.partition(b"\r\n")[0])
    if status == 204:
        return 0
    raise NotUnderstood(f"An answer without Content-Length:\n{head.decode(errors='replace')}")
