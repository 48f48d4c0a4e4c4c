"""What routes depend on: the runtime, a database session, and where the request comes from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.addresses import client_address
from app.db.work import Actor, Origin
from app.runtime import Runtime


def runtime_of(request: Request) -> Runtime:
    """Return the runtime of this process."""
    found = request.app.state.runtime
    assert isinstance(found, Runtime)
    return found


async def runtime(request: Request) -> Runtime:
    """Return the runtime; async, because FastAPI calls other functions in a thread."""
    return runtime_of(request)


RuntimeDep = Annotated[Runtime, Depends(runtime)]


async def reading(runtime: RuntimeDep) -> AsyncIterator[AsyncSession]:
    """A database session for reading."""
    async with runtime.reading() as db:
        yield db


# "function": the connection is back in the pool before the answer leaves.
ReadDep = Annotated[AsyncSession, Depends(reading, scope="function")]


async def actor(request: Request, runtime: RuntimeDep) -> Actor:
    """Return where the request comes from. The route finds out who sent it."""
    address = client_address(
        request.client.host if request.client else None,
        request.headers.getlist("x-forwarded-for"),
        trusted=runtime.settings.trusted_proxies,
    )
    user_agent = request.headers.get("user-agent")
    return Actor(origin=Origin(address, user_agent, request.state.request_id))


ActorDep = Annotated[Actor, Depends(actor)]


@asynccontextmanager
async def watch_disconnect(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """Yield a task that is done when the client disconnects; the body must have been read."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watching = asyncio.create_task(watch())
    try:
        yield watching
    finally:
        watching.cancel()
