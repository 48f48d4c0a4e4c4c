"""Questions to the database that are held open, so that something can happen before the answer.

By an advisory lock, which a `HeldSession` waits for after it has read.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.runtime import Runtime

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
    runtime: Runtime, kind: Literal["advisory", "relation"], count: int = 1
) -> None:
    """Wait until so many wait for locks of this kind in the runtime's database."""
    waiting = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = :kind AND NOT granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    async with runtime.engine.connect() as connection, asyncio.timeout(60):
        while await connection.scalar(waiting, {"kind": kind}) != count:
            await asyncio.sleep(0.01)
