"""What a serving process does beside answering requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.mail.sender import Sender
from app.ops.housekeeping import prune
from app.runtime import Runtime

logger = logging.getLogger(__name__)

TRIM_INTERVAL = 5.0  # seconds
USES_WRITTEN_EVERY = 15.0  # seconds
LAST_WORK = 2.0
"""Seconds that a process that ends may take to write what it knows."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something that a serving process does all the time. It is cancelled when the process ends."""

    name: str
    run: Callable[[], Coroutine[Any, Any, None]]


def jobs(runtime: Runtime, trim: Callable[[], None]) -> list[Job]:
    """Return all jobs of a serving process."""
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

    housekeeping_interval = settings.housekeeping_interval.total_seconds()
    return [
        Job("change feed", runtime.feed.run),
        Job("memory", partial(_repeat, give_memory_back, TRIM_INTERVAL)),
        Job("last uses", partial(_repeat, _last_uses(runtime), USES_WRITTEN_EVERY)),
        Job("housekeeping", partial(_repeat, clear_away, housekeeping_interval)),
        Job("mail", Sender(runtime.database, runtime.mailer, settings).run),
    ]


@asynccontextmanager
async def background_work(runtime: Runtime, trim: Callable[[], None]) -> AsyncIterator[None]:
    """Run all jobs while the block runs: `trim` gives memory back."""
    tasks = [asyncio.create_task(job.run(), name=job.name) for job in jobs(runtime, trim)]
    try:
        yield
    finally:
        await end(tasks)
        # What takes longer is given up: it must not keep the process, or hide why it ends.
        last = asyncio.create_task(_try(_last_uses(runtime)))
        await asyncio.wait([last], timeout=LAST_WORK)
        await end([last])


def _last_uses(runtime: Runtime) -> Callable[[], Awaitable[None]]:
    async def write_last_uses() -> None:
        await runtime.access_tokens.last_uses.write(runtime.sessions)

    return write_last_uses


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
        await _try(work)


async def _try(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - whatever it was, the next round may succeed
        logger.warning("%s failed, to be tried again: %s", work.__name__, type(error).__name__)
