"""The change feed: the database tells of its own changes, and every process hears of them at once.

Triggers notify in the writing transaction (migration 0003), so a change is told whoever makes it:
this process, another replica, or somebody with psql.

Whether nothing was missed is told by a heartbeat that is a notification itself: sent on one
connection, where the requests' database is, and heard on another. Postgres delivers notifications
in the order of their commits: once this process hears its own beat, it has heard of every change
that was committed before the beat was sent. A network that swallows bytes, a pooler that keeps
notifications to itself or a listener that leads to another database hears no beat, and is
distrusted, whatever else it answers.
"""

import asyncio
import logging
import math
import random
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
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


Connect = Callable[[], Awaitable[Any]]
"""Makes a connection of asyncpg's that is nobody else's."""


class ChangeFeed:
    """Hears of every change, and knows up to when it has heard of all of them.

    `to_listen` connects to where the notifications come from, `to_write` to the database that the
    requests use: mostly the same. `bound`, in seconds, is how long a beat is believed. The clock
    is set by the way.
    """

    def __init__(
        self, *, to_listen: Connect, to_write: Connect, bound: float, clock: DatabaseClock
    ) -> None:
        self._to_listen = to_listen
        self._to_write = to_write
        self.bound = bound
        self._clock = clock
        self._hearers: list[Callable[[Change], None]] = []
        self._heard_up_to = -math.inf
        self._unheard: dict[str, float] = {}
        """The beats on their way, and when each was sent."""
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
            backoff = min(0.1 * 2 ** min(failures, 10), MAX_BACKOFF)
            await asyncio.sleep(random.uniform(0.5, 1) * backoff)  # noqa: S311

    async def _follow(self) -> None:
        lost = asyncio.Event()
        async with AsyncExitStack() as stack:
            # However long it takes: of several hosts, the first may not answer at all.
            listening = await stack.enter_async_context(_connected(self._to_listen, lost))
            writing = await stack.enter_async_context(_connected(self._to_write, lost))
            await listening.add_listener(CHANNEL, self._on_change)
            await listening.add_listener(self._beat_channel, self._on_beat)
            # Whatever was told before this moment, nobody here has heard.
            self.tell(EVERYTHING)
            self._unheard.clear()
            self._clock.doubt()
            while not lost.is_set():
                await self._beat(writing)
                await _wait(lost, self.bound / BEATS_PER_BOUND)
                if len(self._unheard) >= BEATS_PER_BOUND:
                    raise FeedDeaf
            raise ConnectionError("the connection was closed")

    async def _beat(self, writing: Any) -> None:
        """Send a beat, and set the clock by the way."""
        beat, sent = secrets.token_hex(8), time.monotonic()
        self._unheard[beat] = sent
        # A transaction keeps both halves of a statement together, where there is a pooler.
        async with asyncio.timeout(self.bound), writing.transaction():
            told = await writing.fetchval(BEAT, self._beat_channel, beat)
            self._clock.adopt(told, sent=sent, received=time.monotonic())

    def _on_beat(self, _connection: object, _pid: int, _channel: str, beat: str) -> None:
        sent = self._unheard.get(beat)
        if sent is not None:
            self._heard_up_to = sent
            self.lag = time.monotonic() - sent
            self._unheard = {each: at for each, at in self._unheard.items() if at > sent}

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


@asynccontextmanager
async def _connected(connect: Connect, lost: asyncio.Event) -> AsyncIterator[Any]:
    """A connection; `lost` is set when it ends before the block does."""
    connection = await connect()
    connection.add_termination_listener(lambda _: lost.set())
    try:
        yield connection
    finally:
        # Not close(), which would wait for a server that may have gone.
        connection.terminate()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
