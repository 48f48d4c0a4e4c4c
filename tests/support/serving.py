"""Services that are ended while they answer."""

import socket
import sys

from tests.support.factories import PASSWORD
from tests.support.processes import (
    Service,
    children_of,
)

BODY = f"username=alice&password={PASSWORD.replace(' ', '+')}".encode()
HEAD = (
    b"POST /token HTTP/1.1\r\nHost: scopegate.test\r\nExpect: 100-continue\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)


def begin_login(service: Service) -> socket.socket:
    """A login that a process has accepted, and waits for the body of."""
    connection = service.connect()
    connection.sendall(HEAD)
    assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection


def refuses_connections(service: Service) -> bool:
    try:
        service.connect().close()
    except ConnectionError:
        return True
    return False


def workers_of(service: Service) -> list[int]:
    """The processes that serve. Forked ones have their parent's command, as far as `ps` tells."""
    return children_of(service.process.pid, "serve" if sys.platform == "linux" else "spawn_main")
