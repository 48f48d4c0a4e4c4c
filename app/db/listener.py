"""Connections that listen for changes, events and the beats of the change feed."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from app.db.clock import monotonic
from app.db.events import EVENT_CHANNEL
from app.db.primary import LONGEST_LIFE, UNREACHABLE
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

    def __init__(self, connection: Any, since: int) -> None:
        self.connection = connection
        self.since = since
        """The number of the last beat that may have been sent before it listened."""
        self.heard = 0
        """The number of the last beat that it heard."""
        self.events = 0
        """How many events it has heard since that beat: every listener counts the same."""
        self.held: list[tuple[tuple[int, int], str]] | None = []
        """Events that it has heard, with their places; None once it leads."""
        self.opened_at = monotonic()
        self.ends_at = self.opened_at + random.uniform(0.8, 1) * LONGEST_LIFE  # noqa: S311
        self.proven = asyncio.Event()
        """Set when it has heard a beat."""
        self.lost = asyncio.Event()
        """Set when the connection has ended."""
        connection.add_termination_listener(lambda _: self.lost.set())

    @property
    def place(self) -> tuple[int, int]:
        """How far it has heard: the last beat, and how many events since."""
        return self.heard, self.events

    def close(self) -> None:
        """End the connection, without a word to a server that may have gone."""
        self.connection.terminate()

    async def wait_until_lost(self, seconds: float) -> None:
        """Return when the connection has ended, and after so many seconds in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.lost.wait()


class Listeners:
    """The listener that leads, and while it is being replaced its successor too.

    Nothing is lost meanwhile, and each event is passed on once, in order. A change may be passed on
    by both.
    """

    leader: Listener
    successor: Listener | None = None

    def __init__(
        self,
        connect: Connect,
        beat_channel: str,
        *,
        on_change: Callable[[str], None],
        on_event: Callable[[str], None],
        on_beat: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._beat_channel = beat_channel
        self._on_change = on_change
        self._on_event = on_event
        self._on_beat = on_beat

    async def begin(self, number: int) -> None:
        """Listen on a new connection. The beats up to that number were sent before."""
        self.leader, self.successor = await self._listen(number), None
        self.leader.held = None

    async def renew(self, number: int, *, bound: float, patience: float) -> None:
        """Open a successor to a leader that has served its time."""
        now = monotonic()
        if self.successor and now - self.successor.opened_at > bound:
            self.successor.close()
            self.successor, self.leader.ends_at = None, now + bound
        if not self.successor and now > self.leader.ends_at:
            try:
                async with asyncio.timeout(patience):
                    self.successor = await self._listen(number)
            except UNREACHABLE:
                self.leader.ends_at = now + bound

    def hand_over(self) -> None:
        """Let the successor lead once that loses nothing.

        Both have then heard a beat that was sent after the successor began to listen, and the
        successor has heard as much as the leader, so the leader has nothing that the successor
        lacks.
        """
        old, new = self.leader, self.successor
        if new is None or new.held is None or old.heard <= new.since or new.place < old.place:
            return
        missed = [payload for place, payload in new.held if place > old.place]
        self.leader, self.successor = new, None
        # What the old one has received and not passed on yet, the new one passes on.
        old.held, new.held = [], None
        old.close()
        for payload in missed:
            self._on_event(payload)

    def close(self) -> None:
        """End the connections."""
        self.leader.close()
        if self.successor:
            self.successor.close()

    async def _listen(self, number: int) -> Listener:
        listener = Listener(await self._connect(), number)

        def note_change(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            self._on_change(payload)

        def note_event(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            listener.events += 1
            if listener.held is None:
                self._on_event(payload)
            else:
                listener.held.append((listener.place, payload))
                if listener is self.successor:
                    self.hand_over()

        def note_beat(_connection: object, _pid: int, _channel: str, number: str) -> None:
            listener.heard, listener.events = int(number), 0
            listener.proven.set()
            self._on_beat()

        try:
            await listener.connection.add_listener(CHANNEL, note_change)
            await listener.connection.add_listener(EVENT_CHANNEL, note_event)
            await listener.connection.add_listener(self._beat_channel, note_beat)
        except BaseException:
            listener.close()
            raise
        return listener
