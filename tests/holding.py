"""Questions to the database that are held open, so that something can happen before the answer.

By an advisory lock, which a `HeldSession` waits for after it has read.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

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

    async def until_held(self, loads: int = 1) -> None:
        """Wait until so many loads have read, and wait."""
        waiting = text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        async with self.runtime.engine.connect() as connection, asyncio.timeout(60):
            while await connection.scalar(waiting) != loads:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def held(runtime: Runtime) -> AsyncIterator[Hold]:
    hold = Hold(runtime)
    async with runtime.engine.connect() as connection, connection.begin():
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({HOLD})"))
        yield hold
