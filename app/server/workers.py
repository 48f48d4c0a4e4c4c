"""Workers of one service exchange their metrics, because a scrape reaches only one of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 1.0
"""Seconds to wait for another worker; after that, its metrics are missing."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several workers: its number, and the folder in which each has a socket."""

    folder: Path
    number: int

    @asynccontextmanager
    async def telling(self, render: Callable[[], bytes]) -> AsyncIterator[None]:
        """Send the result of `render` to every worker that asks, while the block runs."""

        async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(render())
            writer.close()

        server = await asyncio.start_unix_server(tell, self._socket)
        try:
            yield
        finally:
            server.close()
            self._socket.unlink(missing_ok=True)

    async def ask_others(self) -> list[bytes]:
        """Return the metrics of all other workers that answer in time."""
        others = [each for each in self.folder.iterdir() if each != self._socket]
        answers = await asyncio.gather(*map(_ask, others), return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, bytes)]

    @property
    def _socket(self) -> Path:
        return self.folder / str(self.number)


async def _ask(socket: Path) -> bytes:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            return await reader.read()
        finally:
            writer.close()
