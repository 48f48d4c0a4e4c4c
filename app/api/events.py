"""GET /events: what happens, for services that verify tokens themselves. A stream, not JSON."""

import math
import re
from collections.abc import AsyncIterator
from datetime import datetime

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from starlette.types import Receive, Scope, Send

from app.api.answers import PROTECTED
from app.api.dependencies import RuntimeDep
from app.api.routing import Router
from app.api.security import CanReadEvents, bearer_token
from app.db.engine import DATABASE_GONE
from app.errors import DomainError, InsufficientScope, InvalidToken, Unavailable
from app.events.streams import Check, Reason, Stream
from app.runtime import Runtime
from app.tokens.jwt import Claims

router = Router(tags=["events"], responses=PROTECTED)

REQUIRED = ("read:events",)
NONCE = re.compile(r"[A-Za-z0-9_-]{1,128}")
THROUGH = re.compile(r"[0-9]{1,15}")
HEADERS = {
    # Without a charset: server-sent events are always UTF-8.
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # Otherwise nginx would hold frames back.
    "X-Accel-Buffering": "no",
    # After the last frame the server closes.
    "Connection": "close",
}


class UnfitHeader(DomainError):
    """A header of this route is not as it must be."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"Send {name} once, as {what}, or leave it out.")


class EventStream(StreamingResponse):
    """An answer that sends a stream's frames, and closes the stream however that ends."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes], stream: Stream) -> None:
        super().__init__(frames, headers=HEADERS)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames, until the stream ends or the client disconnects."""
        # It lasts as long as the client likes: its duration is no latency, and no shutdown waits.
        scope["state"]["stream"] = True
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()


def _declared(name: str, pattern: re.Pattern[str], description: str) -> dict[str, object]:
    schema = {"type": "string", "pattern": f"^{pattern.pattern}$"}
    return {"name": name, "in": "header", "description": description, "schema": schema}


@router.get(
    "/events",
    summary="Follow events",
    status_code=200,
    response_class=EventStream,
    response_description="Server-sent events, without an end.",
    # Not by FastAPI: it would answer 422.
    openapi_extra={
        "parameters": [
            _declared("Scopegate-Nonce", NONCE, "Returned in `hello`."),
            _declared("Scopegate-Through", THROUGH, "Go on after this `through`."),
        ]
    },
)
async def follow(request: Request, principal: CanReadEvents, runtime: RuntimeDep) -> Response:
    """Follow what changes the worth of tokens: sessions, users, grants, scopes and keys.

    The protocol is described in docs/reference/events.md.
    """
    nonce = _header(request, "Scopegate-Nonce", NONCE, "1 to 128 of A-Z, a-z, 0-9, _ and -")
    through = _header(request, "Scopegate-Through", THROUGH, "a whole number of milliseconds")
    token = bearer_token(request)
    assert token is not None, "the principal came from it"
    # Before the time is asked for: what was heard earlier was committed earlier.
    stream = runtime.streams.open(after=None if through is None else int(through))
    try:
        if request.method == "HEAD":
            stream.close()
            return Response(headers=HEADERS)
        claims = await runtime.access_tokens.read(token, now=runtime.now())
        hello = stream.hello(nonce=nonce, now=await _database_time(runtime))
    except BaseException:
        stream.close()
        raise
    own = frozenset({principal.user_id, principal.session_id, claims.token_id})
    return EventStream(stream.frames(hello, _check(runtime, token, claims), own=own), stream)


def _header(request: Request, name: str, pattern: re.Pattern[str], what: str) -> str | None:
    """Return the header's value. Raises UnfitHeader."""
    match request.headers.getlist(name):
        case []:
            return None
        case [value] if pattern.fullmatch(value):
            return value
    raise UnfitHeader(name, what)


async def _database_time(runtime: Runtime) -> int:
    """Ask the database for the time, in milliseconds."""
    async with runtime.reading() as db:
        now: datetime = (await db.execute(select(func.clock_timestamp()))).scalar_one()
    return math.ceil(1000 * now.timestamp())


def _check(runtime: Runtime, token: str, claims: Claims) -> Check:
    """Return what tells whether this token is still good for the stream."""

    async def check() -> Reason | None:
        now = runtime.now()
        try:
            _, principal = await runtime.access_tokens.verify(token, now=now)
            principal.require(REQUIRED)
        except (InvalidToken, InsufficientScope):
            return "expired" if claims.expires_at <= now else "revoked"
        except (DBAPIError, Unavailable, *DATABASE_GONE):
            return "lost"
        return None

    return check
