"""The change feed: the database tells of its own changes, and every process hears of them at once.

Triggers notify in the writing transaction (migration 0003), so a change is told whoever makes it:
this process, another replica, or somebody with psql.

Whether nothing was missed is told by a heartbeat that is a notification itself. Postgres delivers
notifications in the order of their commits: once this process hears its own beat, it has heard of
every change that was committed before the beat was sent. A connection that has gone deaf, a
network that swallows bytes or a pooler that hands notifications to somebody else hears no beat, and
is distrusted, whatever else it answers.
"""

import asyncio
import logging
import math
import random
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from app.db.clock import DatabaseClock
from app.errors import ScopegateError

logger = logging.getLogger(__name__)

CHANNEL = "scopegate"
BEATS_PER_BOUND = 5
MAX_BACKOFF = 5.0
"""Seconds between two attempts to connect, at the most."""
# Nobody would miss a beat, so it need not wait for the disk. For this transaction only: behind a
# pooler the connection is others' too.
BEAT = """
SELECT clock_timestamp() FROM set_config('synchronous_commit', 'off', true), pg_notify($1, $2)
"""


@dataclass(frozen=True, slots=True)
class Change:
    """Something is not what it was: a `user` or their grants, a `session`, an opaque `token`.

    Or, without a key, any of a kind: `keys`, `scopes`, `everything`.
    """

    kind: Literal["user", "session", "token", "keys", "scopes", "everything"]
    key: uuid.UUID | bytes | None = None


EVERYTHING = Change("everything")


def parse_change(payload: str) -> Change:
    """What a notification tells; what is not understood may be anything, so it is everything."""
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


class FeedDeaf(ScopegateError):
    """The database answers on the feed's connection, but no notification comes through."""

    def __init__(self) -> None:
        super().__init__(
            "notifications do not come through: behind a pooler like PgBouncer, set "
            "SCOPEGATE_LISTEN_DATABASE_URL to a URL that leads directly to Postgres"
        )


class ChangeFeed:
    """Hears of every change, and knows up to when it has heard of all of them.

    `connect` makes a connection of asyncpg's that is nobody else's; `bound`, in seconds, is how
    long a beat is believed. The clock is set by the way.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], *, bound: float, clock: DatabaseClock
    ) -> None:
        self._connect = connect
        self.bound = bound
        self._clock = clock
        self._hearers: list[Callable[[Change], None]] = []
        self._heard_up_to = -math.inf
        self._beat_channel = f"{CHANNEL}_beat_{secrets.token_hex(8)}"
        self.changes_heard = 0
        self.lag = math.nan
        """Seconds from sending the last beat to hearing it."""

    def subscribe(self, hearer: Callable[[Change], None]) -> None:
        """Have it called, at once and on the event loop, with every change that is heard."""
        self._hearers.append(hearer)

    def fresh(self) -> bool:
        """Whether every change that was committed more than `bound` seconds ago has been heard.

        Only then may anything that was remembered be relied on.
        """
        return time.monotonic() - self._heard_up_to < self.bound

    def tell(self, change: Change) -> None:
        """Let everybody who subscribed hear of the change."""
        for hearer in self._hearers:
            hearer(change)

    async def run(self) -> None:
        """Follow the changes until cancelled; when the connection is lost, on a new one."""
        failures = 0
        while True:
            try:
                await self._follow()
            # Whatever it was: without the feed nothing is wrong, but everything is slow, for ever.
            except Exception as error:  # noqa: BLE001
                failures = 0 if self.fresh() else failures + 1
                logger.warning(
                    "the change feed is lost, every request asks the database until it is back: %s",
                    str(error) or type(error).__name__,
                )
            finally:
                self._heard_up_to = -math.inf
            # Jittered, so that replicas which lost the database together don't return together.
            await asyncio.sleep(random.uniform(0.5, 1) * min(0.1 * 2**failures, MAX_BACKOFF))  # noqa: S311

    async def _follow(self) -> None:
        async with asyncio.timeout(self.bound):
            connection = await self._connect()
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            async with asyncio.timeout(self.bound):
                await connection.add_listener(CHANNEL, self._on_change)
                await connection.add_listener(self._beat_channel, self._on_beat)
            # Whatever was told before this moment, nobody here has heard.
            self.tell(EVERYTHING)
            self._clock.doubt()
            unheard = 0
            while not lost.is_set():
                sent = await self._beat(connection)
                await _wait(lost, self.bound / BEATS_PER_BOUND)
                unheard = 0 if self._heard_up_to >= sent else unheard + 1
                if unheard == BEATS_PER_BOUND:
                    raise FeedDeaf
            raise ConnectionError("the connection was closed")
        finally:
            # Not close(), which would wait for a server that may have gone.
            connection.terminate()

    async def _beat(self, connection: Any) -> float:
        """Send a beat, and set the clock by the answer; when it was sent."""
        sent = time.monotonic()
        async with asyncio.timeout(self.bound):
            told = await connection.fetchval(BEAT, self._beat_channel, repr(sent))
        self._clock.adopt(told, sent=sent, received=time.monotonic())
        return sent

    def _on_beat(self, _connection: object, _pid: int, _channel: str, sent: str) -> None:
        self._heard_up_to = float(sent)
        self.lag = time.monotonic() - self._heard_up_to

    def _on_change(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        self.changes_heard += 1
        self.tell(parse_change(payload))


class AnnouncingSession(Session):
    """A session that tells `info["feed"]` of announced changes once its transaction has ended."""


def announce(session: AsyncSession, change: Change) -> None:
    """Let this process hear of a change as soon as it is committed.

    The triggers tell of it too, a moment later. Whoever revokes here and asks here next shall not
    be let in during that moment.
    """
    session.info.setdefault("announced", []).append(change)


@event.listens_for(AnnouncingSession, "after_transaction_end")
def _tell_what_was_announced(session: Session, transaction: SessionTransaction) -> None:
    # Not after_commit, which is called for savepoints too. After a rollback it does no harm.
    if transaction.parent is None:
        for change in session.info.pop("announced", ()):
            session.info["feed"].tell(change)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
