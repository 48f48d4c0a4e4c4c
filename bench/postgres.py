"""The Postgres that everything runs on, and a database of its own for each who needs one."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

from app.db.embedded import EmbeddedPostgres

URL_VARIABLE = "SCOPEGATE_BENCH_DATABASE_URL"
PREFIX = "scopegate_bench_"

CONNECTIONS = 300


@dataclass(frozen=True)
class Postgres:
    """A server, on which databases can be made."""

    url: str
    name: str
    _made: set[str] = field(default_factory=set)

    async def create(self, name: str) -> str:
        """Make the database anew, empty; return its URL, for SQLAlchemy."""
        await self._drop(name)
        await self._administer(f'CREATE DATABASE "{PREFIX}{name}" TEMPLATE template0')
        self._made.add(name)
        return self.url_of(name)

    def url_of(self, name: str) -> str:
        """The URL of a database that was made, for SQLAlchemy."""
        return make_url(self.url).set(database=PREFIX + name).render_as_string(hide_password=False)

    async def clean_up(self) -> None:
        """Remove all databases that were made, whoever is still connected."""
        for name in self._made:
            await self._drop(name)

    async def _drop(self, name: str) -> None:
        await self._administer(f'DROP DATABASE IF EXISTS "{PREFIX}{name}" WITH (FORCE)')

    async def _administer(self, statement: str) -> None:
        connection = await connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def connect(url: str) -> asyncpg.Connection:
    """A plain connection, by a URL that is written for SQLAlchemy."""
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return await asyncpg.connect(dsn)


@asynccontextmanager
async def open_postgres() -> AsyncIterator[Postgres]:
    """The server that SCOPEGATE_BENCH_DATABASE_URL names, else an embedded one.

    Nothing stays of what was made on it.
    """
    if given := os.environ.get(URL_VARIABLE):
        url = make_url(given).set(drivername="postgresql+asyncpg")
        named = Postgres(url.render_as_string(hide_password=False), URL_VARIABLE)
        try:
            yield named
        finally:
            await named.clean_up()
        return
    home = Path(tempfile.mkdtemp(prefix="scopegate-bench-"))
    embedded = await asyncio.to_thread(EmbeddedPostgres.start, home)
    # All contestants' pools at once; it counts from the next start on.
    await Postgres(embedded.url, "")._administer(
        f"ALTER SYSTEM SET max_connections = {CONNECTIONS}"
    )
    await asyncio.to_thread(embedded.release)
    embedded = await asyncio.to_thread(EmbeddedPostgres.start, home)
    try:
        yield Postgres(embedded.url, "the embedded Postgres")
    finally:
        await asyncio.to_thread(embedded.release)
        shutil.rmtree(home)
