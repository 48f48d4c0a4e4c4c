"""The Postgres of the chaos: a primary with a synchronous standby that can change places."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from app.db.embedded_server import NAME
from tests.support.cluster import Node, primary_and_standby


class Cluster:
    """Two servers behind one URL. No commit is acknowledged before the standby has it."""

    def __init__(self, primary: Node, standby: Node, url: str) -> None:
        self.primary, self.standby = primary, standby
        self.url = url

    async def connect(self) -> asyncpg.Connection:
        """Return a connection to the primary."""
        return await self.primary.connect(NAME)

    async def stop(self, *, immediately: bool = False) -> None:
        """Shut the primary down; `immediately` is like a crash."""
        self.primary.end(signal.SIGQUIT if immediately else signal.SIGINT)

    async def resume(self) -> None:
        """Start the primary again."""
        await self.primary.start()

    def stall(self) -> None:
        """Stop every process of the primary, without closing anything."""
        self.primary.stall()

    def go_on(self) -> None:
        """Let the primary run again."""
        self.primary.go_on()

    async def promote(self, *, fenced: bool) -> None:
        """Promote the standby while the old primary still runs: read-only if it is fenced.

        The old primary acknowledges nothing from now on, as its standby is gone.
        """
        if fenced:
            await self.primary.configure("default_transaction_read_only = on")
        await self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    async def rebuild_standby(self) -> None:
        """End the old primary and make a standby of it."""
        self.standby.kill()
        self.standby.copy(self.primary)
        await self.standby.start()
        await self.primary.configure("synchronous_standby_names = '*'")


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Run a migrated cluster; both servers end with the block."""
    async with primary_and_standby(folder) as (primary, standby, url):
        yield Cluster(primary, standby, url)
