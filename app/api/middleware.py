"""What happens to every request before any route: pure ASGI, so that nothing is buffered."""

import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.addresses import is_trusted
from app.api.errors import on_domain_error
from app.db.query_time import QueryTimer
from app.errors import Unavailable
from app.ops.logging import Answered, RequestLog
from app.ops.metrics import Requests
from app.settings import Settings

if TYPE_CHECKING:
    from app.ops.spans import Tracing

CACHE_CONTROL = b"cache-control"
CONTENT_POLICY = b"content-security-policy"
API_CONTENT_POLICY = b"default-src 'none'; frame-ancestors 'none'"
"""API answers load no content. Our pages send a policy of their own."""
HARDENING = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
COOKIES = "cookies"
"""Where a request's state has its Cookie headers."""
RawHeaders = list[tuple[bytes, bytes]]
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A request id that a proxy may set: it has no character that breaks a log line."""
UNLOGGED = {"/health/live", "/health/ready", "/metrics"}
"""Routes that machines ask all day long."""


def own_path(scope: Scope) -> str:
    """Return the request's path below the root path, where the app is mounted or served below one.

    In ASGI `path` begins with `root_path`.
    """
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Busy(Unavailable):
    """The server has more to do than it takes on, or shuts down."""

    text = "The service is busy: try again in a moment."


class Hardening:
    """The headers of every answer: the constant ones, and the request id."""

    def __init__(self, settings: Settings) -> None:
        self._constant = list(HARDENING)
        if settings.hsts:
            self._constant.append(
                (b"strict-transport-security", b"max-age=%d" % settings.hsts.total_seconds())
            )

    def around(self, given: RawHeaders, request_id: str, *, stored: bool) -> RawHeaders:
        """Return an answer's own headers and these; its own content policy stays.

        If it may not be `stored`, `no-store` replaces its own Cache-Control.
        """
        own = dict(given)
        headers = [*given, *self._constant, (b"x-request-id", request_id.encode())]
        if CONTENT_POLICY not in own:
            headers.append((CONTENT_POLICY, API_CONTENT_POLICY))
        if not stored and own.get(CACHE_CONTROL) != b"no-store":
            headers = [header for header in headers if header[0] != CACHE_CONTROL]
            headers.append((CACHE_CONTROL, b"no-store"))
        return headers


class RequestContextMiddleware:
    """The outermost middleware, so that errors get the request id and the headers too.

    The id is also in `request.state`. After the answer, the request is counted and logged in one
    line. A crash is logged with its trace, and is not raised further.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        requests: Requests,
        tracing: "Tracing | None",
    ) -> None:
        self._app = app
        self._requests = requests
        self._tracing = tracing
        self._log = RequestLog(settings)
        self._trusted = settings.trusted_proxies
        self._hardening = Hardening(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with an id of its own, or a trusted proxy's."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._given_id(scope) or secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        given = dict(scope["headers"])
        stored = b"authorization" not in given
        if b"cookie" in given:
            # FastAPI would take them apart before any route. Only our own pages read one.
            scope["state"][COOKIES] = [
                value for name, value in scope["headers"] if name == b"cookie"
            ]
            scope["headers"] = [each for each in scope["headers"] if each[0] != b"cookie"]
        status = 0
        crash: Exception | None = None

        async def enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] != "http.response.start":
                await send(message)
                return
            headers = message["headers"]
            message["headers"] = self._hardening.around(headers, request_id, stored=stored)
            await send(message)
            status = message["status"]

        began = time.perf_counter()
        with QueryTimer() as in_database:
            try:
                await self._app(scope, receive, enveloped)
            except Exception as error:
                # A crash is answered with 500. If no answer was sent, the server can't send.
                if not status:
                    raise
                crash = error
        seconds = time.perf_counter() - began
        self._tell(scope, status, seconds, in_database.seconds, crash)

    def _tell(
        self,
        scope: Scope,
        status: int,
        seconds: float,
        in_database: float,
        crash: Exception | None,
    ) -> None:
        """Count the request, and log it."""
        # Never the path or the query, in which there can be anything: the route alone.
        route = getattr(scope.get("route"), "path_format", None)
        # A stream's duration is no latency: see the metrics of streams.
        if "stream" not in scope["state"]:
            self._requests.count(
                method=scope["method"], route=route, status=status, seconds=seconds
            )
        if route in UNLOGGED and crash is None:
            return
        self._log.log(
            Answered(
                request_id=scope["state"]["request_id"],
                trace_id=self._tracing.trace_id() if self._tracing else None,
                user_id=scope["state"].get("user_id"),
                method=scope["method"],
                route=route,
                status=status,
                seconds=seconds,
                in_database=in_database,
                crash=crash,
            )
        )

    def _given_id(self, scope: Scope) -> str | None:
        """What a trusted proxy calls the request."""
        if not self._trusted or not is_trusted(scope["client"], self._trusted):
            return None
        given = Headers(scope=scope).get("x-request-id", "")
        return given if REQUEST_ID.fullmatch(given) else None


class RequestLimitsMiddleware:
    """Refuses requests marked as `refused` with 503, and limits the size of a body.

    A route that reads more than `max_bytes` fails with 413, in its own format.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what of its body is read."""
        # A busy process is alive: to restart it would make things worse.
        if "refused" in scope.get("state", ()) and own_path(scope) != "/health/live":
            answer = await on_domain_error(Request(scope), Busy())
            await answer(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, f"The body is larger than {self._max_bytes} bytes.")
            return message

        await self._app(scope, counted, send)


class TrustedHosts(TrustedHostMiddleware):
    """Refuses requests for other hosts, except for health and metrics: probes use an IP address.

    Both are the same for every host, and metrics need their token.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400."""
        path = own_path(scope) if scope["type"] == "http" else ""
        if path.startswith("/health/") or path == "/metrics":
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
