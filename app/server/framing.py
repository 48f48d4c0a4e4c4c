"""Where a request ends: one request, one answer, whatever the client says about its framing.

When a server and the proxy before it see different ends of a request, one client gets the answer to
another's (request smuggling). So one parser, httptools', decides where a request ends. What another
parser may read differently is refused, and the connection closes.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CODINGS: dict[str, list[list[bytes]]] = {"1.0": [[]], "1.1": [[], [b"chunked"]]}
"""The transfer codings that a request may have, by version (RFC 9112 §6.1)."""


class FramedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also reads the body of a request that offers an upgrade."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.in_body = False
        """Whether the parser has read the head of `cycle`'s request, and not yet its end."""
        self._upgrade_offered = False
        self._close_is_due = False

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent; refuse what is not HTTP.

        If a request offers an upgrade, httptools ends it after its head, even if it declares a
        body. But an offer that the server ignores changes nothing (RFC 9110 §7.8). So a second
        parser reads the head again, without the offer.
        """
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                self._upgrade_offered = True
                data = self._head_without_upgrade() + data[offer.args[0] :]
                # The old one reads nothing more when the client asked to close as well.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                message = "Invalid HTTP request received."
                self.logger.warning(message)
                self.send_400_response(message)
                return

    def on_headers_complete(self) -> None:
        """Begin the request, once its framing is beyond doubt."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("This server opens no tunnels.")
            return  # `data_received` has this head read once more.
        self._require_plain_framing()
        self.begin_request()
        self.in_body = True
        # Trailers are not headers: a proxy that replaces X-Forwarded-For does not look into them.
        self.headers = []
        # The client may send the body or not when it gets its answer in place of "100 Continue".
        if self._upgrade_offered or self.expect_100_continue:
            self.cycle.keep_alive = False
        if not self.cycle.keep_alive:
            self.cycle.transport = LastAnswerTransport(self)

    def begin_request(self) -> None:
        """Start the application on the request whose head is read."""
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request; close when its answer was waiting for that."""
        if self.parser.should_upgrade():
            return
        self.in_body = False
        self.end_request()
        if self._close_is_due:
            self.transport.close()

    def end_request(self) -> None:
        """Tell the application that the request has arrived."""
        super().on_message_complete()

    def close_behind(self, answer: "LastAnswerTransport") -> None:
        """Close when the request of this answer has arrived.

        A connection that is closed while the client sends is reset, and its answer may be lost.
        """
        if self.in_body and self.cycle.transport is answer:
            self._close_is_due = True
        else:
            self.transport.close()

    def _head_without_upgrade(self) -> bytes:
        """Return the head that was just parsed, as the parser understood it, but for `Upgrade`."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [name + b":" + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _require_plain_framing(self) -> None:
        """Raise HttpParserError for ambiguous framing, and for a request after the last one.

        httptools itself refuses a length beside a coding, repeated lengths, folded lines, and lines
        that don't end in CRLF.
        """
        version = self.parser.get_http_version()
        codings, hosts = [], 0
        for name, value in self.headers:
            if name == b"transfer-encoding":
                codings.append(value.strip().lower())
            elif name == b"host":
                hosts += 1
        if self._close_is_due or codings not in CODINGS.get(version, ()):
            raise httptools.HttpParserError("Another parser may see another end of this request.")
        # RFC 9112 §3.2: a proxy may have routed the request by the other one.
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise httptools.HttpParserError("A request has one Host.")
        if version == "1.0":
            # It has no "100 Continue": the client would take that for the answer.
            self.expect_100_continue = False


class LastAnswerTransport(asyncio.Transport):
    """The transport of the last answer: `close` waits until the whole request has arrived."""

    def __init__(self, protocol: FramedProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send this to the client."""
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        """Return whether the client can get no more."""
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        """Close the connection when the request has arrived."""
        self._protocol.close_behind(self)
