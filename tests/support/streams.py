"""Streams of events: an app that is asked without a socket, and what its frames say."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fastapi import FastAPI
from sqlalchemy import text
from starlette.types import Message

from app.main import create_app
from app.runtime import Runtime
from tests.support.processes import PATIENCE

TIME = "SELECT ceil(1000 * extract(epoch FROM clock_timestamp()))::bigint"
Frame = tuple[str, dict[str, Any]]
"""Its name, and its data."""


def parse(text: bytes) -> list[Frame]:
    """Return the frames, each of which must have come in whole and as two lines."""
    *blocks, rest = text.decode("ascii").split("\n\n")
    assert rest == ""
    frames = []
    for block in blocks:
        name, data = block.split("\n")
        frames.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return frames


class Happened(NamedTuple):
    """What a `set` says, without its times and ids of its own."""

    type: str
    """The last part of the event type's URI."""
    subject: dict[str, Any]


class Reader:
    """Who reads a stream: a client of the app, which has sent the request."""

    def __init__(
        self, runtime: Runtime, app: FastAPI | None, headers: Mapping[str, str], method: str
    ) -> None:
        if app is None:
            app = create_app(runtime.settings)
            app.state.runtime = runtime
        self._app = app
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self.frames: list[Frame] = []
        """All that came."""
        self.taken = 0
        """How many of them the test has looked at."""
        self.blocked = asyncio.Event()
        self.blocked.set()
        """Not set while the client takes nothing."""
        self.state: dict[str, Any] = {}
        self._gone = asyncio.Event()
        self._news = asyncio.Condition()
        self._runtime = runtime
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": "/events",
            "raw_path": b"/events",
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("scopegate.test", 80),
            "state": self.state,
        }

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._send)
        async with self._news:
            self.ended = True
            self._news.notify_all()

    async def _receive(self) -> Message:
        if not self.state.get("asked"):
            self.state["asked"] = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.blocked.wait()
        async with self._news:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            elif self.status == 200:
                self.frames += parse(message.get("body", b""))
            self._news.notify_all()

    async def next(self, *names: str) -> Frame:
        """Return the next frame of these names, of any if there are none, as soon as it comes."""
        async with asyncio.timeout(PATIENCE), self._news:
            while True:
                while self.taken < len(self.frames):
                    frame = self.frames[self.taken]
                    self.taken += 1
                    if not names or frame[0] in names:
                        return frame
                assert not self.ended, f"the stream has ended: {self.frames[-3:]}"
                await self._news.wait()

    async def until_ended(self) -> list[Frame]:
        """Return all frames, once the server has ended the stream."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.ended)
        return self.frames

    async def proven(self) -> int:
        """Return a `through` that is later than now: all that was committed has been sent."""
        now = await database_time(self._runtime)
        while True:
            _, data = await self.next("beat")
            if data["through"] > now:
                through: int = data["through"]
                return through

    def happened(self) -> list[Happened]:
        """Return what all `set` frames so far say."""
        found = []
        for name, data in self.frames:
            if name == "set":
                ((uri, _),) = data["events"].items()
                found.append(Happened(uri.rsplit("/", 1)[-1].rsplit(":", 1)[-1], data["sub_id"]))
        return found

    def go(self) -> None:
        """Disconnect."""
        self._gone.set()


async def database_time(runtime: Runtime) -> int:
    """The time by the database's clock, in milliseconds."""
    async with runtime.engine.connect() as connection:
        now: int = (await connection.execute(text(TIME))).scalar_one()
    return now


@asynccontextmanager
async def following_events(
    runtime: Runtime,
    token: Mapping[str, str],
    *,
    method: str = "GET",
    nonce: str | None = None,
    through: int | str | None = None,
    app: FastAPI | None = None,
) -> AsyncIterator[Reader]:
    """A client that follows meanwhile."""
    headers = dict(token)
    if nonce is not None:
        headers["Scopegate-Nonce"] = nonce
    if through is not None:
        headers["Scopegate-Through"] = str(through)
    reader = Reader(runtime, app, headers, method)
    task = asyncio.create_task(reader.run())
    try:
        async with asyncio.timeout(PATIENCE):
            while not (reader.status or task.done()):
                await asyncio.sleep(0.001)
        yield reader
    finally:
        reader.go()
        reader.blocked.set()
        async with asyncio.timeout(PATIENCE):
            await task


def of_user(issuer: str, user_id: uuid.UUID) -> dict[str, Any]:
    return {"format": "iss_sub", "iss": issuer, "sub": str(user_id)}


def of_session(issuer: str, user_id: uuid.UUID, session_id: uuid.UUID) -> dict[str, Any]:
    session = {"format": "opaque", "id": str(session_id)}
    return {"format": "complex", "user": of_user(issuer, user_id), "session": session}
