"""Change feeds of a test's own, what they hear, and changes as psql makes them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url

from app.db.changes import Change, ChangeFeed
from app.db.clock import DatabaseClock
from app.db.engine import connect_apart
from app.db.primary import Primary
from app.db.url import normalise_url
from app.runtime import Runtime
from tests.conftest import running, settings_for
from tests.support.processes import until
from tests.support.statements import execute

BOUND = 0.5  # seconds: short, so that a fault is noticed soon


def feed_of(
    url: str,
    *,
    bound: float = 5.0,
    listen_url: str | None = None,
    before_listening: Callable[[], None] = lambda: None,
    opened: list[asyncpg.Connection] | None = None,
) -> ChangeFeed:
    """A feed that may listen at another URL than its beats go to; `opened` gets the listeners."""
    settings, primary = settings_for(url), Primary()

    async def listen() -> asyncpg.Connection:
        before_listening()
        where = normalise_url(listen_url or url)
        connection = await connect_apart(where, settings, primary.find, purpose=" changes")
        if opened is not None:
            opened.append(connection)
        return connection

    async def write() -> asyncpg.Connection:
        where = normalise_url(url)
        return await connect_apart(where, settings, primary.survey, purpose=" beat")

    return ChangeFeed(primary, to_listen=listen, to_write=write, bound=bound, clock=DatabaseClock())


@asynccontextmanager
async def heard_by(feed: ChangeFeed) -> AsyncIterator[list[Change]]:
    """What is heard meanwhile, from the moment when the feed is fresh."""
    heard: list[Change] = []
    feed.subscribe(heard.append)
    async with running(feed):
        await until(feed.fresh)
        heard.clear()
        yield heard


FEEDS = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'scopegate changes'"
)


async def terminate_feeds(runtime: Runtime) -> None:
    await execute(runtime, f"SELECT pg_terminate_backend(pid) FROM ({FEEDS}) AS feeds")


def url_of(runtime: Runtime) -> str:
    return make_url(runtime.engine.url).render_as_string(hide_password=False)
