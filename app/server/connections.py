"""uvicorn's HTTP/1.1, with limits on what a client may send and how long it may take.

uvicorn alone waits for ever for the rest of a request, and keeps headers of any length.
"""

import asyncio
import secrets
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any, NoReturn

import httptools
import uvicorn
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from app.api.middleware import Hardening
from app.server.framing import FramedProtocol
from app.server.workers import Worker
from app.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_FRAMING_BYTES = 16 * 1024
"""Limit for all of a request except its body: request line, headers, chunk sizes, trailers."""
MAX_URL_BYTES = 4 * 1024
MAX_PARAMETERS = 100
MAX_HEADERS = 100
MAX_CHUNKS = 512
MAX_PIPELINED = 16
PIECE = 4 * 1024
"""Bytes that are parsed between two checks of the limits."""
LAST_FRAMES = 0.2
"""Seconds that a client has to take the last frames of an event stream at a shutdown."""
RESET = struct.pack("ii", 1, 0)


MakeApp = Callable[[Settings, Worker | None], "FastAPI"]


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration, plus limits that uvicorn does not have."""

    def __init__(self, settings: Settings, make_app: MakeApp, worker: Worker | None = None) -> None:
        super().__init__(
            partial(make_app, settings, worker),
            factory=True,
            http=Connection,
            # No route uses WebSockets, and their connections would not have these limits.
            ws="none",
            timeout_keep_alive=int(settings.keep_alive_timeout.total_seconds()),
            timeout_graceful_shutdown=int(settings.shutdown_timeout.total_seconds()),
            # A query string can hold a password that a client sent there by mistake.
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # As `ops.logging` has it.
            log_config=None,
            log_level="warning",
        )
        self.max_connections = settings.max_connections
        self.request_timeout = settings.request_timeout.total_seconds()
        self.hardening = Hardening(settings)


class Connection(FramedProtocol):
    """One client's connection.

    Beyond `max_connections`, the app refuses its requests. Beyond twice as many, it is closed.
    """

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._whole_app, self.app = self.app, self._ask
        self._max_connections = config.max_connections
        self._patience = config.request_timeout
        self._hardening = config.hardening
        self.headers = []
        self._framing = self._chunks = 0
        # Two deadlines, because a client may send one request while it reads the answer to another.
        self._request_due: float | None = None
        """When the client must have sent its request, by the loop's clock."""
        self._taking_due: float | None = None
        """When it must have taken some of its answer."""
        self._watch: asyncio.TimerHandle | None = None
        self._pipelined: list[RequestResponseCycle] = []
        """Requests before the last one, if that did not wait for their answers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > 2 * self._max_connections:
            transport.abort()
            return
        self._request_due = self._soon()
        # One timer a connection, not one a request: most requests are over long before.
        self._watch = self.loop.call_later(self._patience, self._close_if_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer, and mark the unanswered requests as disconnected."""
        if self._watch is not None:
            self._watch.cancel()
        self._give_up()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data in small pieces, because the parser keeps all that it is given."""
        if self._request_due is None:
            self._request_due = self._soon()
        while data and not self.transport.is_closing():
            room = min(PIECE, MAX_FRAMING_BYTES - self._framing)
            piece, data = data[:room], data[room:]
            self._framing += len(piece)
            super().data_received(piece)
            too_much = self._framing >= MAX_FRAMING_BYTES or len(self.headers) > MAX_HEADERS
            if too_much and not self.transport.is_closing():
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Start this request's deadline: the same data may have held a whole request before it."""
        self._request_due = self._soon()
        super().on_message_begin()

    def begin_request(self) -> None:
        """Start the request; close the connection after it if there are too many, or at shutdown.

        Refuse a request that exceeds the limits on its URL and headers, or on pipelined requests.
        """
        if len(self.url) > MAX_URL_BYTES or self.url.count(b"&") >= MAX_PARAMETERS:
            self._stop(HTTPStatus.REQUEST_URI_TOO_LONG)
        if len(self.headers) > MAX_HEADERS or len(self.pipeline) >= MAX_PIPELINED:
            self._stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        crowded = max(len(self.connections), len(self.tasks) + 1) > self._max_connections
        if crowded:
            self.scope["state"]["refused"] = True
        if self.cycle is None or self.cycle.response_complete:
            self._pipelined.clear()
        else:
            self._pipelined.append(self.cycle)
        super().begin_request()
        if crowded or "draining" in self.app_state:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Do not count the body as framing."""
        self._framing -= len(body)
        if isinstance(self.cycle.body, bytes):
            # Grows in place. With bytes, each chunk of a byte would copy all that came before it.
            self.cycle.body = bytearray(self.cycle.body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Count the chunk: each costs a call, however small it is."""
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            self._stop(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def end_request(self) -> None:
        """End the deadline: the client has sent the whole request."""
        self._framing, self._chunks, self._request_due = 0, 0, None
        super().end_request()

    def send_400_response(self, _msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST)

    def pause_writing(self) -> None:
        """Start a deadline: the client does not read its answer as fast as it is written."""
        self._taking_due = self._soon()
        super().pause_writing()

    def resume_writing(self) -> None:
        """End that deadline: the client has read some of its answer."""
        self._taking_due = None
        super().resume_writing()

    def shutdown(self) -> None:
        """Let the request under way finish. No event stream holds a shutdown up, however slow."""
        super().shutdown()
        if self.cycle is not None and "stream" in self.cycle.scope["state"]:
            self.loop.call_later(LAST_FRAMES, self.transport.abort)

    async def _ask(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        try:
            await self._whole_app(scope, receive, send)
        except asyncio.CancelledError:
            # uvicorn cancels a request when the shutdown timeout has passed.
            scope["state"]["refused"] = True
            # uvicorn raises this if the answer has begun already: then the answer ends here.
            with suppress(RuntimeError):
                await self._whole_app(scope, receive, send)

    def _soon(self) -> float:
        return self.loop.time() + self._patience

    def _close_if_late(self) -> None:
        if self._taking_due is None and self.transport.is_closing():
            # The rest of an answer is on its way, or stuck.
            self._taking_due = self._soon()
        if self._request_due is not None and self.flow.read_paused:
            # While answers are pending, nothing is read, so the client can't be late.
            self._request_due = self._soon()
        due = min(filter(None, (self._request_due, self._taking_due)), default=None)
        if due is not None and due <= self.loop.time():
            # Reset the connection: otherwise the kernel keeps the unread data for a long time.
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET)
            self._give_up()
            self.transport.abort()
            return
        self._watch = self.loop.call_at(due or self._soon(), self._close_if_late)

    def _may_answer(self) -> bool:
        """Whether the last request has no answer yet, and all requests before it have one."""
        if self.transport.is_closing() or not all(one.response_complete for one in self._pipelined):
            return False
        if self.in_body:
            return not self.cycle.response_started
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self) -> None:
        # uvicorn marks only the last of several pipelined requests as disconnected, and only in the
        # loop's next iteration. Until then an answer in progress would fail.
        for cycle in (*self._pipelined, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True

    def _stop(self, status: HTTPStatus) -> NoReturn:
        """Refuse what is being parsed, and have the parser read nothing more."""
        self._refuse(status)
        raise httptools.HttpParserError(status.phrase)

    def _refuse(self, status: HTTPStatus) -> None:
        if self._may_answer():
            given = [(b"content-length", b"0"), (b"connection", b"close")]
            # The request was not parsed to its end: it may have had credentials.
            headers = self._hardening.around(given, secrets.token_hex(16), stored=False)
            lines = (name + b": " + value + b"\r\n" for name, value in headers)
            self.transport.write(STATUS_LINE[status] + b"".join(lines) + b"\r\n")
        self._give_up()
        self.transport.close()
