"""A connection that listens for changes and for the beats of the change feed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from app.db.clock import monotonic
from app.db.primary import LONGEST_LIFE
from app.errors import ScopegateError

CHANNEL = "scopegate"

Connect = Callable[[], Awaitable[Any]]
"""Makes a connection of asyncpg's that only its caller uses."""


class FeedDeaf(ScopegateError):
    """The database answers on the feed's connection, but no notification comes through."""

    text = (
        "notifications do not come through: behind a pooler like PgBouncer, set "
        "SCOPEGATE_LISTEN_DATABASE_URL to a URL that leads directly to Postgres"
    )


class ListensElsewhere(ScopegateError):
    """The listener is connected to another server than the one that requests lead to."""

    text = (
        "the connection that listens for changes leads to another server than requests do: "
        "that server was replaced, or SCOPEGATE_LISTEN_DATABASE_URL leads elsewhere"
    )


class Listener:
    """Listens on one connection. Beats are numbered, and come in the order of their numbers."""

    def __init__(self, connection: Any, on_beat: Callable[[], None]) -> None:
        self.connection = connection
        self.heard = 0
        """The number of the last beat that it heard."""
        self.since = 0
        """The number of the last beat that may have been sent before it listened."""
        self.opened_at = monotonic()
        self.ends_at = self.opened_at + random.uniform(0.8, 1) * LONGEST_LIFE  # noqa: S311
        self.proven = asyncio.Event()
        """Set when it has heard a beat."""
        self.lost = asyncio.Event()
        """Set when the connection has ended."""
        self._on_beat = on_beat
        connection.add_termination_listener(lambda _: self.lost.set())

    async def listen(self, beat_channel: str, on_change: Callable[[str], None]) -> None:
        """Begin to listen. `on_change` is called with what each notification of a change says."""
        await self.connection.add_listener(CHANNEL, lambda *arguments: on_change(arguments[-1]))
        await self.connection.add_listener(beat_channel, self._note_beat)

    def close(self) -> None:
        """End the connection, without a word to a server that may have gone."""
        self.connection.terminate()

    async def wait_until_lost(self, seconds: float) -> None:
        """Return when the connection has ended, and after so many seconds in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.lost.wait()

    def _note_beat(self, _connection: object, _pid: int, _channel: str, number: str) -> None:
        self.heard = int(number)
        self.proven.set()
        self._on_beat()
