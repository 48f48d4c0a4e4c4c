"""Bytes on a socket: sent as they are, and what comes back."""

import select
import socket
from email import message_from_bytes
from email.message import Message

from tests.support.processes import read

HEAD = b"GET /health/live HTTP/1.1\r\nHost: scopegate.test\r\n"
FORM_HEAD = (
    b"POST /token HTTP/1.1\r\nHost: scopegate.test\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
)
HALF_A_FORM = FORM_HEAD + b"Content-Length: 100\r\n\r\na=b"


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
    # Not select(), which takes no descriptor past 1023.
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def status(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


def headers_of(answer: bytes) -> Message:
    """What stands in the only answer's head."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"HTTP/1.1" not in rest
    return message_from_bytes(head.partition(b"\r\n")[2])
