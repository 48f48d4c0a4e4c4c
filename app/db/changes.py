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

from app.db.beats import Beat, send_beat
from app.db.clock import DatabaseClock, monotonic
from app.db.events import Follower, Mark, parse_event
from app.db.listener import CHANNEL, Connect, FeedDeaf, Listeners, ListensElsewhere
from app.db.outages import Outages
from app.db.primary import UNREACHABLE, Primary
from app.db.triggers import Triggers

logger = logging.getLogger(__name__)

BEATS_PER_BOUND = 5
MAX_BACKOFF = 5.0
"""Seconds between two attempts to connect, at the most."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something is not what it was: a `user` or their grants, a `session`, a `client`, a `token`.

    Or, without a key, any of a kind: `keys`, `scopes`, `everything`.
    """

    kind: Literal["user", "session", "client", "token", "keys", "scopes", "everything"]
    key: uuid.UUID | bytes | None = None


EVERYTHING = Change("everything")


def parse_change(payload: str) -> Change:
    """Return the change that a notification names; EVERYTHING if it is not understood."""
    kind, _, key = payload.partition(" ")
    try:
        match kind:
            case "user" | "session" | "client":
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
        self._to_write = to_write
        self.bound = bound
        self._clock = clock
        self._hearers: list[Callable[[Change], None]] = []
        self._followers: list[Follower] = []
        self._beat_channel = f"{CHANNEL}_beat_{secrets.token_hex(8)}"
        self._listeners = Listeners(
            to_listen,
            self._beat_channel,
            on_change=self._on_change,
            on_event=self._on_event,
            on_beat=self._record_heard_beats,
        )
        self._number = 0
        """Of the last beat."""
        self._sent: dict[int, tuple[float, Beat]] = {}
        """Committed beats that are not heard yet, and when the survey of each began."""
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

    def follow(self, follower: Follower) -> None:
        """Have it told of every event that is heard, and of how far they have been heard.

        It is told of what the database says alone, and not of what this process publishes.
        """
        self._followers.append(follower)

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
        await self._listeners.begin(self._number)
        began = monotonic()
        try:
            await self._beat()
            async with asyncio.timeout(self.bound):
                await self._listeners.leader.proven.wait()
            return monotonic() - began
        except TimeoutError:
            raise FeedDeaf from None
        finally:
            self._listeners.close()

    async def _follow(self) -> None:
        try:
            await self._listeners.begin(self._number)
        except UNREACHABLE:
            await self._survey()
            raise
        try:
            # What changed before this moment, this process has not heard of.
            self._note_gap()
            self._sent.clear()
            self._clock.reset()
            interval = self.bound / BEATS_PER_BOUND
            while not self._listeners.leader.lost.is_set():
                next_at = monotonic() + interval
                await self._listeners.renew(self._number, bound=self.bound, patience=interval)
                await self._try_beat()
                await self._listeners.leader.wait_until_lost(next_at - monotonic())
                self._raise_if_deaf()
            raise ConnectionError("the connection was closed")
        finally:
            self._listeners.close()

    async def _survey(self) -> None:
        """Decide which server requests must use, although no listener could connect.

        Through old connections, a pooler may still lead requests to a server that was replaced.
        """
        with suppress(*UNREACHABLE):
            (await self._to_write()).terminate()

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
        leader = self._listeners.leader
        if self._primary.server_of(leader.connection) != self._primary.current:
            connection.terminate()
            raise ListensElsewhere
        self._number += 1
        # Less than the bound: while this waits in vain, a newer primary may be there, and the next
        # survey must find it within the bound.
        seconds = self.bound * (1 - 1 / BEATS_PER_BOUND)
        beat = await send_beat(connection, self._beat_channel, str(self._number), seconds=seconds)
        if not self._clock.sync(beat.now, sent=beat.sent_at, received=beat.answered_at):
            for follower in self._followers:
                follower.on_clock_change()
        self._written_at, self.queue_usage, self.failure = surveyed_at, beat.queue_usage, None
        self._outages.end(beat.answered_at)
        self._note(beat.triggers)
        # Only a beat that was committed counts, though it may have been heard already.
        if not beat.triggers.wrong:
            self._sent[self._number] = (surveyed_at, beat)
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
            self._note_gap()

    def _note_gap(self) -> None:
        """Tell all that changes may have been missed."""
        self.publish(EVERYTHING)
        for follower in self._followers:
            follower.on_gap()

    def _record_heard_beats(self) -> None:
        """Count the beats that were heard, and let a successor take over that heard one."""
        self._listeners.hand_over()
        heard = [number for number in self._sent if number <= self._listeners.leader.heard]
        if not heard:
            return
        surveyed_at, beat = self._sent[max(heard)]
        self._heard_up_to, self.lag = surveyed_at, monotonic() - beat.sent_at
        for number in heard:
            del self._sent[number]
        # Not the beat's own time: since its survey, a newer primary may have committed.
        through = math.floor(1000 * (beat.now.timestamp() - (beat.answered_at - surveyed_at)))
        mark = Mark(through, until=math.ceil(1000 * self._clock.latest()), heard_up_to=surveyed_at)
        for follower in self._followers:
            follower.on_mark(mark)

    def _raise_if_deaf(self) -> None:
        """Raise FeedDeaf when a beat was sent long ago and is still not heard."""
        if any(monotonic() - beat.sent_at > self.bound for _, beat in self._sent.values()):
            raise FeedDeaf

    def _on_change(self, payload: str) -> None:
        self.changes_heard += 1
        self.publish(parse_change(payload))

    def _on_event(self, payload: str) -> None:
        event = parse_event(payload)
        for follower in self._followers:
            follower.on_event(event)
