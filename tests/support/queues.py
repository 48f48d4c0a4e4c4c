"""Callers of the hashing queue."""

import asyncio
from collections import deque
from collections.abc import Iterable

from app.identity.hash_queue import (
    ACCOUNT_SHARE,
    HashQueue,
    Source,
    TooManyLogins,
)

PLACES = 64
SHARE = PLACES // ACCOUNT_SHARE


def queue_of(places: int = PLACES) -> HashQueue:
    """A queue in which so many can wait before the turn that is next."""
    return HashQueue(threads=1, places=places + 1)


def length(queue: HashQueue) -> int:
    """Calls in the lanes."""
    return sum(map(len, queue._lanes.values()))


async def take_all(queue: HashQueue) -> None:
    """Take the thread's turn, and that of the call which is made ready."""
    while queue._free:
        await queue.take_turn(Source())


class Crowd:
    """Callers of a queue whose turns are taken: they all have to wait."""

    def __init__(self, places: int = PLACES) -> None:
        self.queue = queue_of(places)
        self.served: list[Source] = []
        self.refused: list[Source] = []
        self.tasks: deque[asyncio.Task[None]] = deque()

    async def come(self, sources: Iterable[Source]) -> None:
        """These callers ask for a turn, one after the other."""
        await take_all(self.queue)
        for source in sources:
            self.tasks.append(asyncio.create_task(self._ask(source)))
            await asyncio.sleep(0)

    async def _ask(self, source: Source) -> None:
        try:
            await self.queue.take_turn(source)
        except TooManyLogins:
            self.refused.append(source)
        else:
            self.served.append(source)

    async def serve(self, turns: int) -> None:
        """End so many turns: as many callers are served, if they are there."""
        for _ in range(turns):
            self.queue.give_back()
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def serve_all(self) -> None:
        while length(self.queue):
            await self.serve(1)
        await asyncio.gather(*self.tasks)


def bob(number: int = 0) -> Source:
    return Source("logins", f"127.0.0.{number}", "bob")


def numbered(count: int, network: str = "192.0.2.{}") -> list[Source]:
    """As many accounts, each in a network of its own unless one is given."""
    return [Source("logins", network.format(number), f"user-{number}") for number in range(count)]
