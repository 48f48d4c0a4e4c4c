"""Questions to the database, and hashes, that are held so that something can happen meanwhile.

A question by an advisory lock, which a `HeldSession` waits for after it has read.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.identity.passwords import PasswordHasher
from app.runtime import Runtime
from tests.support.processes import until

HOLD = 0x401D


class HeldSession(AsyncSession):
    """Reads, and then waits for the advisory lock before it says what it read."""

    async def execute(self, *arguments: Any, **named: Any) -> Any:
        found = await super().execute(*arguments, **named)
        await super().execute(text(f"SELECT pg_advisory_xact_lock_shared({HOLD})"))
        return found


@dataclass
class Hold:
    """Holds every load that has read its row."""

    runtime: Runtime
    lock: AsyncConnection

    async def until_held(self, loads: int = 1) -> None:
        """Wait until so many loads have read, and wait."""
        await until_waiting(self.runtime, "advisory", loads)

    async def release(self) -> None:
        """Let them go on; those that come later are not held."""
        await self.lock.rollback()


@asynccontextmanager
async def held(runtime: Runtime) -> AsyncIterator[Hold]:
    async with runtime.engine.connect() as connection:
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({HOLD})"))
        yield Hold(runtime, connection)


async def until_waiting(
    runtime: Runtime, kind: Literal["advisory", "relation", "transactionid"], count: int = 1
) -> None:
    """Wait until so many wait for locks of this kind in the runtime's database."""
    waiting = text(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = :kind AND NOT granted AND datname = current_database()"
    )
    async with runtime.engine.connect() as connection, asyncio.timeout(60):
        while await connection.scalar(waiting, {"kind": kind}) != count:
            await connection.rollback()  # In one transaction, it would see the same again.
            await asyncio.sleep(0.01)


@dataclass
class Hashing:
    """The hashing threads, all of which are busy."""

    hasher: PasswordHasher

    async def until_waiting(self, calls: int = 1) -> None:
        """Wait until so many calls wait behind those that hold the threads."""
        await until(lambda: self.hasher.waiting - 1 >= calls)


@asynccontextmanager
async def hashing_held(runtime: Runtime) -> AsyncIterator[Hashing]:
    """No password is hashed until the end."""
    hasher, gate = runtime.hasher, threading.Event()
    # One more than there are threads: it is made ready, so what comes has to wait for a turn.
    busy = [
        asyncio.ensure_future(hasher._threads.run(gate.wait))
        for _ in range(hasher._threads.threads + 1)
    ]
    await asyncio.sleep(0)
    try:
        yield Hashing(hasher)
    finally:
        gate.set()
        await asyncio.gather(*busy)
