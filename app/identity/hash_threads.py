"""The threads that hash passwords, behind their queue.

They are not those of the event loop or of requests: a hash costs some 20 ms and 19 MiB on purpose.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from app.identity.hash_queue import CallerGone, Disconnected, HashQueue, Source

LOW_PRIORITY = 10

T = TypeVar("T")

COMMANDS = Source()
AtTurn = Callable[[float], Awaitable[None]]
"""Called when a call that had to wait gets its turn, with the seconds that it waited."""


def _give_way() -> None:
    """Give this thread only the processor time that no other thread wants.

    Otherwise threads that answer requests would wait for time slices of some milliseconds.
    """
    if sys.platform == "linux":  # Elsewhere a priority is a process's, not a thread's.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)


class HashThreads:
    """Runs calls in so many threads; `places` logins, and as many others, may wait for them."""

    def __init__(self, threads: int, *, places: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=_give_way)
        self.threads = threads
        self.queue = HashQueue(threads=threads, places=places)
        self.begun = 0
        self.waited = 0.0
        """Seconds that the calls which were begun had waited, all together."""

    async def run(
        self,
        work: Callable[[], T],
        gone: Disconnected | None = None,
        *,
        source: Source = COMMANDS,
        at_turn: AtTurn | None = None,
    ) -> T:
        """Return what `work` returns in a thread, when its turn in the queue has come.

        `at_turn` is awaited before a call that had to wait is begun, and stops it by raising.
        Raises TooManyLogins; CallerGone when `gone` comes true in the queue.
        """
        loop, asked = asyncio.get_running_loop(), time.monotonic()

        def begin() -> T:
            # The counts are the event loop's: threads would overwrite each other's.
            loop.call_soon_threadsafe(self._note_wait, time.monotonic() - asked)
            return work()

        waited = await self.queue.take_turn(source, gone)
        try:
            if waited and at_turn is not None:
                await at_turn(waited)
            future = self._executor.submit(begin)
        except BaseException:
            self.queue.give_back()
            raise
        # The turn ends when the thread is done, even if the client disconnects: a started hash is
        # finished.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self.queue.give_back))
        if gone is not None:
            # If no thread has started the call, none will. A call that has started is not stopped.
            gone.add_done_callback(lambda _: future.cancel())
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if gone is not None and gone.done():
                raise CallerGone from None
            raise

    def close(self) -> None:
        """End the threads when their present work is done; cancel the calls that wait."""
        self.queue.close()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _note_wait(self, seconds: float) -> None:
        self.begun += 1
        self.waited += seconds
