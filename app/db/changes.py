"""The change feed: every process hears of every change in the database within moments.

Triggers notify in the writing transaction (migration 0003), so a change is heard whatever its
source: this process, another replica, or a person with psql.

A heartbeat that is itself a notification proves that no change was missed. Each beat is sent on a
fresh connection, made as the request pool makes its own, to where requests must lead at that
moment (`Primary.survey`). Postgres delivers notifications in the order of their commits: a process
that hears its own beat has heard of every change that was committed there before. If the network
drops bytes, a pooler forwards no notifications, or the primary was replaced, the process receives
no beat and stops using its caches. Each beat also checks the triggers: they must exist, be enabled,
and match the migrations.
"""

import asyncio
import logging
import math
import random
import secrets
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from app.db.beats import send_beat
from app.db.clock import DatabaseClock, monotonic
from app.db.listener import CHANNEL, Connect, FeedDeaf, Listener, ListensElsewhere
from app.db.outages import Outages
from app.db.primary import UNREACHABLE, Primary
from app.db.triggers import Triggers

logger = logging.getLogger(__name__)

BEATS_PER_BOUND = 3
MAX_BACKOFF = 5.0
"""Seconds between two attempts to connect, at the most."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something is not what it was: a `user` or their grants, a `session`, an opaque `token`.

    Or, without a key, any of a kind: `keys`, `scopes`, `everything`.
    """

    kind: Literal["user", "session", "token", "keys", "scopes", "everything"]
    key: uuid.UUID | bytes | None = None


EVERYTHING = Change("everything")


def parse_change(payload: str) -> Change:
    """Return the change that a notification names; EVERYTHING if it is not understood."""
    kind, _, key = payload.partition(" ")
    try:
        match kind:
            case "user" | "session":
                return Change(kind, uuid.UUID(key))
            case "token":
                return Change(kind, bytes.fromhex(key.removeprefix(r"\x")))
            case "keys" | "scopes":
                return Change(kind)
    except ValueError:
        pass
    return EVERYTHING


class ChangeFeed:
    """Hears of every change, and knows up to when it has heard of all of them.

    `to_listen` connects to where the notifications come from, `to_write` to where requests must
    lead now. `bound` is for how many seconds a beat proves anything. Each beat sets the clock too.
    """

    _listener: Listener
    _successor: Listener | None

    def __init__(
        self,
        primary: Primary,
        *,
        to_listen: Connect,
        to_write: Connect,
        bound: float,
        clock: DatabaseClock,
    ) -> None:
        self._primary = primary
        self._to_listen = to_listen
        self._to_write = to_write
        self.bound = bound
        self._clock = clock
        self._hearers: list[Callable[[Change], None]] = []
        self._beat_channel = f"{CHANNEL}_beat_{secrets.token_hex(8)}"
        self._number = 0
        """Of the last beat."""
        self._sent: dict[int, tuple[float, float]] = {}
        """Committed beats that are not heard yet: when each survey began, when each was sent."""
        self._heard_up_to = self._written_at = -math.inf
        self._outages = Outages(bound=bound)
        self.triggers: Triggers | None = None
        """What the last beat found."""
        self.failure: Exception | None = None
        """Why no beat can be sent, or none is heard; None when the last one was sent."""
        self.changes_heard = 0
        self.lag = math.nan
        """Seconds from sending the last beat to hearing it."""
        self.queue_usage = math.nan
        """How full Postgres' queue of notifications is, from 0 to 1."""

    def subscribe(self, hearer: Callable[[Change], None]) -> None:
        """Have it called, at once and on the event loop, with every change that is heard."""
        self._hearers.append(hearer)

    def fresh(self) -> bool:
        """Whether every change that was committed more than `bound` seconds ago has been heard.

        Only then may anything that was remembered be relied on.
        """
        return monotonic() - self._heard_up_to < self.bound

    def writes(self) -> bool:
        """Whether the database has committed a beat within the last `bound` seconds."""
        return monotonic() - self._written_at < self.bound

    def outage(self, seconds: float) -> float:
        """Return in how many of the last so many seconds this process could answer no request."""
        return self._outages.within(seconds, now=monotonic())

    def publish(self, change: Change) -> None:
        """Call every subscriber with the change."""
        for hearer in self._hearers:
            hearer(change)

    async def run(self) -> None:
        """Follow the changes until cancelled; when the connection is lost, on a new one."""
        failures = 0
        self._outages.begin()
        while True:
            try:
                await self._follow()
            # Retry after any error: without the feed answers are correct, but every request queries
            # the database.
            except Exception as error:  # noqa: BLE001
                failures = 0 if self.fresh() else failures + 1
                self.failure = error
                logger.warning(
                    "the change feed is lost, every request asks the database until it is back: %s",
                    str(error) or type(error).__name__,
                )
            finally:
                self._heard_up_to = -math.inf
            # Jittered, so that replicas which lost the database together don't return together.
            backoff = min(0.1 * 2 ** min(failures, 10), self.bound / BEATS_PER_BOUND, MAX_BACKOFF)
            await asyncio.sleep(random.uniform(0.5, 1) * backoff)  # noqa: S311

    async def prove(self) -> float:
        """Send one beat, wait until it is heard, and return how many seconds that took.

        Raises what keeps it from that: FeedDeaf, ListensElsewhere, or an error of `UNREACHABLE`.
        """
        self._listener, self._successor = await self._listen(), None
        began = monotonic()
        try:
            await self._beat()
            async with asyncio.timeout(self.bound):
                await self._listener.proven.wait()
            return monotonic() - began
        except TimeoutError:
            raise FeedDeaf from None
        finally:
            self._listener.close()

    async def _follow(self) -> None:
        try:
            self._listener, self._successor = await self._listen(), None
        except UNREACHABLE:
            await self._survey()
            raise
        try:
            # What changed before this moment, this process has not heard of.
            self.publish(EVERYTHING)
            self._sent.clear()
            self._clock.reset()
            while not self._listener.lost.is_set():
                next_at = monotonic() + self.bound / BEATS_PER_BOUND
                await self._renew()
                await self._try_beat()
                await self._listener.wait_until_lost(next_at - monotonic())
                self._raise_if_deaf()
            raise ConnectionError("the connection was closed")
        finally:
            self._listener.close()
            if self._successor:
                self._successor.close()

    async def _survey(self) -> None:
        """Decide which server requests must use, although no listener could connect.

        Through old connections, a pooler may still lead requests to a server that was replaced.
        """
        with suppress(*UNREACHABLE):
            (await self._to_write()).terminate()

    async def _listen(self) -> Listener:
        listener = Listener(await self._to_listen(), self._record_heard_beats)
        try:
            await listener.listen(self._beat_channel, self._on_change)
        except BaseException:
            listener.close()
            raise
        listener.since = self._number
        return listener

    async def _renew(self) -> None:
        """Open a successor to a listener that has served its time. Nothing is lost meanwhile.

        Both listen until both have heard a beat that was sent after the successor began to listen:
        then the older has heard of all changes that the newer has not.
        """
        now = monotonic()
        if self._successor and now - self._successor.opened_at > self.bound:
            self._successor.close()
            self._successor, self._listener.ends_at = None, now + self.bound
        if not self._successor and now > self._listener.ends_at:
            try:
                async with asyncio.timeout(self.bound / BEATS_PER_BOUND):
                    self._successor = await self._listen()
            except UNREACHABLE:
                self._listener.ends_at = now + self.bound

    async def _try_beat(self) -> None:
        try:
            await self._beat()
        except UNREACHABLE as error:
            known, self.failure = self.failure, error
            if not self.fresh() and str(known) != str(error):
                logger.warning(
                    "no beat can be sent, so every request asks the database: %s",
                    str(error) or type(error).__name__,
                )

    async def _beat(self) -> None:
        surveyed_at = monotonic()
        connection = await self._to_write()
        if self._primary.server_of(self._listener.connection) != self._primary.current:
            connection.terminate()
            raise ListensElsewhere
        self._number += 1
        # Less than the bound: while this waits in vain, a newer primary may be there, and the next
        # survey must find it within the bound.
        seconds = self.bound * (1 - 1 / BEATS_PER_BOUND)
        beat = await send_beat(connection, self._beat_channel, str(self._number), seconds=seconds)
        self._clock.sync(beat.now, sent=beat.sent_at, received=beat.answered_at)
        self._written_at, self.queue_usage, self.failure = surveyed_at, beat.queue_usage, None
        self._outages.end(beat.answered_at)
        self._note(beat.triggers)
        # Only a beat that was committed counts, though it may have been heard already.
        if not beat.triggers.wrong:
            self._sent[self._number] = (surveyed_at, beat.sent_at)
            self._record_heard_beats()

    def _note(self, triggers: Triggers) -> None:
        """Distrust what was heard while a trigger was not as it must be."""
        before, self.triggers = self.triggers, triggers
        if triggers.wrong:
            self._heard_up_to = -math.inf
            self._sent.clear()
            if not before or before.wrong != triggers.wrong:
                logger.warning(
                    "changes go unheard, so every request asks the database: "
                    "run scopegate migrate, which puts the triggers back: %s",
                    ", ".join(triggers.wrong),
                )
        elif before and before != triggers:
            self.publish(EVERYTHING)

    def _record_heard_beats(self) -> None:
        """Count the beats that were heard, and let a successor take over that heard one."""
        heard = [number for number in self._sent if number <= self._listener.heard]
        if heard:
            self._heard_up_to, sent_at = self._sent[max(heard)]
            self.lag = monotonic() - sent_at
            for number in heard:
                del self._sent[number]
        old, new = self._listener, self._successor
        if new and min(old.heard, new.heard) > new.since:
            self._listener, self._successor = new, None
            old.close()

    def _raise_if_deaf(self) -> None:
        """Raise FeedDeaf when a beat was sent long ago and is still not heard."""
        if any(monotonic() - sent_at > self.bound for _, sent_at in self._sent.values()):
            raise FeedDeaf

    def _on_change(self, payload: str) -> None:
        self.changes_heard += 1
        self.publish(parse_change(payload))
