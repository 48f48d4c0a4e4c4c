"""The unit of work: one transaction, who acts in it, and at which time."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, Self, TypeVar

from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)

from app.crypto import KeyedDigests
from app.db.changes import Change
from app.errors import DomainError

Clock = Callable[[], datetime]
Reader = AsyncConnection | AsyncSession
"""What executes a statement that needs no ORM."""
Connect = Callable[[], AbstractAsyncContextManager[Reader]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from, or who runs a command. The service itself has none of these."""

    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    operator: str | None = None


NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from where.

    Without a user: a client that has not signed in, an operator's command, or the service itself.
    """

    user_id: uuid.UUID | None = None
    origin: Origin = NOWHERE

    def signed_in_as(self, user_id: uuid.UUID | None) -> Self:
        """Return the same actor as this user; as no user when it is None."""
        return replace(self, user_id=user_id)


ActorT = TypeVar("ActorT", bound=Actor)
ActorT_co = TypeVar("ActorT_co", bound=Actor, covariant=True)


@dataclass(frozen=True, slots=True)
class Work(Generic[ActorT_co]):
    """One transaction: what it may touch, who acts, and at which time.

    Functions that change something take it. Made by `Database.work`, which commits.
    """

    db: AsyncSession
    actor: ActorT_co
    now: datetime
    """Fixed when the transaction begins, so passwords are hashed before."""
    database: "Database"
    _changes: list[Change] = field(default_factory=list)
    _after_commit: list[Callable[[], None]] = field(default_factory=list)

    def as_user(self, user_id: uuid.UUID) -> "Work[ActorT_co]":
        """Return the same unit of work in the name of this user, who has just signed in."""
        return replace(self, actor=self.actor.signed_in_as(user_id))

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call this once the transaction is committed; never if it is rolled back."""
        self._after_commit.append(action)

    def publish(self, change: Change) -> None:
        """Publish a change to this process with the commit, before what `after_commit` registered.

        The triggers publish it too, a moment later. In that moment a request to this process must
        not use what was just revoked.
        """
        self._changes.append(change)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Roll back only this block when an error passes through, with what it registered."""
        changes, actions = len(self._changes), len(self._after_commit)
        try:
            async with self.db.begin_nested():
                yield
        except BaseException:
            del self._changes[changes:], self._after_commit[actions:]
            raise

    async def commit(self) -> None:
        """Commit, publish the changes, then run the `after_commit` actions in order.

        The changes are published even if the commit fails: it may have succeeded and only its
        answer was lost. If nothing has changed, this costs only one more query.
        """
        changes, actions = self._changes[:], self._after_commit[:]
        self._changes.clear()
        self._after_commit.clear()
        try:
            await self.db.commit()
        finally:
            for change in changes:
                self.database.publish(change)
        for action in actions:
            action()


@dataclass(frozen=True, slots=True)
class Database:
    """The database as one process uses it: units of work that change it, sessions that read it."""

    sessions: async_sessionmaker[AsyncSession]
    """With transactions. Housekeeping and imports write with them too: what is neither audited nor
    published."""
    reading: async_sessionmaker[AsyncSession]
    """Without: every statement is a transaction of its own, so BEGIN and COMMIT cost no round trip.
    For reading, and for what one statement writes."""
    connect: Connect
    """Such a connection without a session: the cheapest way to read a few columns."""
    now: Clock
    publish: Callable[[Change], None]
    """Tells this process of a change."""
    digests: KeyedDigests
    """Of names that are not kept any more."""
    audited: Counter[str] = field(default_factory=Counter)
    """The audit entries that this process has committed, by action."""

    @classmethod
    def of(
        cls,
        engine: AsyncEngine,
        now: Clock,
        publish: Callable[[Change], None],
        secret_keys: list[str],
    ) -> Self:
        """Return the database that this engine leads to."""
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        return cls(
            async_sessionmaker(engine, expire_on_commit=False),
            async_sessionmaker(autocommit, expire_on_commit=False),
            autocommit.connect,
            now,
            publish,
            KeyedDigests(secret_keys),
        )

    @asynccontextmanager
    async def work(self, actor: ActorT, *, at_once: bool = False) -> AsyncIterator[Work[ActorT]]:
        """Yield a unit of work. Commit it at the end, or roll it back if an error is raised.

        An error whose class sets `keeps_writes` commits all the same. `at_once` is for work that
        one statement does: every statement is committed at once, and nothing is rolled back.
        """
        async with (self.reading if at_once else self.sessions)() as db:
            work = Work(db, actor, self.now(), self)
            try:
                yield work
            except DomainError as error:
                if error.keeps_writes:
                    await work.commit()
                raise
            await work.commit()
