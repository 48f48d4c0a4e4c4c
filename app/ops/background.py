"""What a serving process does beside answering requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

from app.ops.housekeeping import prune
from app.runtime import Runtime

logger = logging.getLogger(__name__)

TRIM_INTERVAL = 5.0  # seconds


@asynccontextmanager
async def background_work(runtime: Runtime, trim: Callable[[], None]) -> AsyncIterator[None]:
    """Follow the change feed, run housekeeping, and `trim` the memory, while the block runs."""
    settings = runtime.settings

    async def clear_away() -> None:
        await prune(
            runtime.sessions,
            now=runtime.now(),
            kept=settings.ended_sessions_kept,
            audit_kept=settings.audit_kept,
        )

    async def give_memory_back() -> None:
        trim()

    tasks = [
        asyncio.create_task(runtime.feed.run()),
        asyncio.create_task(_repeat(give_memory_back, TRIM_INTERVAL)),
        asyncio.create_task(_repeat(clear_away, settings.housekeeping_interval.total_seconds())),
    ]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel the tasks repeatedly until they have ended: cleanup code can swallow a cancellation.

    An example is a rollback on a database that hangs.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(work: Callable[[], Awaitable[None]], interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it was, the next round may succeed
            logger.warning("%s failed, to be tried again: %s", work.__name__, type(error).__name__)
