"""The live principal: who a request is from, and which of its token's scopes count right now.

What the database says of a session is remembered, for as long as the change feed vouches that
nothing has changed since. While it does not, the database is asked each time.
"""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Uuid, any_, bindparam, case, func, literal, select, true
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.holdings import in_force
from app.access.models import Grant, Scope
from app.access.scopes import ADMIN, satisfies
from app.db.changes import Change, ChangeFeed
from app.errors import InsufficientScope
from app.identity.models import Session, User
from app.identity.sessions import is_live


@dataclass(frozen=True, slots=True)
class Holder:
    """The user behind a live session and what they hold: the same for each of its tokens."""

    user_id: uuid.UUID
    session_id: uuid.UUID
    username: str
    kind: str
    created_at: datetime
    granted: Mapping[str, datetime | None]
    held: frozenset[str]
    """What is granted; with `admin`, every registered scope too."""
    ends_at: datetime
    """When the first of all this ends by itself: the session, or a grant."""

    def principal(self, token_scopes: frozenset[str]) -> "Principal":
        """Return what a token of these scopes stands for: the token's scopes ∩ held now."""
        return Principal(self, self.held & token_scopes)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request, with what they hold at this moment and what the token lets them use."""

    holder: Holder
    scopes: frozenset[str]
    """Effective: the token's scopes that are granted now."""

    @property
    def user_id(self) -> uuid.UUID:
        """The user."""
        return self.holder.user_id

    @property
    def session_id(self) -> uuid.UUID:
        """The user's session that the token belongs to."""
        return self.holder.session_id

    @property
    def username(self) -> str:
        """The user's name."""
        return self.holder.username

    @property
    def is_admin(self) -> bool:
        """Whether this request may do everything."""
        return ADMIN in self.scopes

    def require(self, required: tuple[str, ...]) -> None:
        """Return only if every required scope is effective; else raise InsufficientScope."""
        if not satisfies(self.scopes, required):
            raise InsufficientScope(required)


def _select_holder() -> Select[Any]:
    user_id, now = bindparam("user_id", type_=Uuid()), bindparam("now", type_=Session.ended_at.type)
    grants = (
        select(
            func.array_agg(Grant.scope).label("scopes"),
            func.array_agg(Grant.expires_at).label("ends"),
            func.min(Grant.expires_at).label("first_end"),
        )
        .where(Grant.user_id == user_id, in_force(now))
        .subquery()
    )
    registered = select(func.array_agg(Scope.name)).scalar_subquery()
    return (
        select(
            User.username,
            User.kind,
            User.created_at,
            grants.c.scopes,
            grants.c.ends,
            case((literal(ADMIN) == any_(grants.c.scopes), registered)),
            func.least(Session.expires_at, Session.idle_expires_at, grants.c.first_end),
        )
        .join(Session)
        .join(grants, true())
        .where(
            Session.id == bindparam("session_id"),
            User.id == user_id,
            User.disabled_at.is_(None),
            is_live(now),
        )
    )


# Built once: to build it costs as much as to ask the database.
_HOLDER = _select_holder()


async def load_holder(
    db: AsyncSession, session_id: uuid.UUID, *, user_id: uuid.UUID, now: datetime
) -> Holder | None:
    """The holder as the database has it now, by one indexed query.

    None when this user has no such session, it has ended, or the user is gone or disabled.
    """
    values = {"session_id": session_id, "user_id": user_id, "now": now}
    row = (await db.execute(_HOLDER, values)).one_or_none()
    if row is None:
        return None
    username, kind, created_at, scopes, ends, of_admin, ends_at = row
    granted = dict(zip(scopes or (), ends or (), strict=True))
    return Holder(
        user_id=user_id,
        session_id=session_id,
        username=username,
        kind=kind,
        created_at=created_at,
        granted=granted,
        held=frozenset(granted).union(of_admin or ()),
        ends_at=ends_at,
    )


@dataclass(slots=True)
class Counts:
    """How the cache answered the lookups so far."""

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    """Lookups that bypassed the cache: the change feed was not fresh, or the cache size is 0."""
    forgotten: int = 0
    """Entries that were dropped because of a change."""


@dataclass(eq=False, slots=True)
class _Entry:
    """One session's holder: being loaded, or remembered."""

    user_id: uuid.UUID
    load: asyncio.Task[Holder | None] | None
    """None once it has ended."""
    holder: Holder | None = None
    invalidated: bool = False
    """Removed from the cache since: its load may have read the state before a change."""


class Principals:
    """The principals of live sessions: those of `size` sessions are remembered, at most."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], feed: ChangeFeed, *, size: int
    ) -> None:
        self._sessions = sessions
        self._feed = feed
        self._size = size
        self._entries: OrderedDict[uuid.UUID, _Entry] = OrderedDict()
        self._sessions_of: dict[uuid.UUID, set[uuid.UUID]] = {}
        self.counts = Counts()
        feed.subscribe(self.on_change)

    def __len__(self) -> int:
        return len(self._entries)

    async def find(
        self,
        session_id: uuid.UUID,
        *,
        user_id: uuid.UUID,
        token_scopes: frozenset[str],
        now: datetime,
    ) -> Principal | None:
        """Return the principal of a token of this session, with the token's scopes that count now.

        None when this user has no such session, it has ended, or the user is gone or disabled.
        The answer was true at some moment since the call, or at most SCOPEGATE_REVOCATION_BOUND
        before it.
        """
        holder = await self._find_holder(session_id, user_id=user_id, now=now)
        if holder is None or holder.user_id != user_id:
            return None
        return holder.principal(token_scopes)

    async def _find_holder(
        self, session_id: uuid.UUID, *, user_id: uuid.UUID, now: datetime
    ) -> Holder | None:
        if not (self._size and self._feed.fresh()):
            self.counts.bypassed += 1
            return await self._ask(session_id, user_id=user_id, now=now)
        entry = self._entries.get(session_id)
        if entry is not None and entry.holder is not None and entry.holder.ends_at > now:
            self.counts.hits += 1
            self._entries.move_to_end(session_id)
            return entry.holder
        self.counts.misses += 1
        entry, holder = await self._load(session_id, user_id=user_id, now=now)
        if not self._still_good(entry, holder, now):
            # The first load may have begun before this call, so it may miss an earlier change. The
            # second load begins after this call.
            _, holder = await self._load(session_id, user_id=user_id, now=now)
        return holder

    async def _ask(
        self, session_id: uuid.UUID, *, user_id: uuid.UUID, now: datetime
    ) -> Holder | None:
        async with self._sessions() as db:
            return await load_holder(db, session_id, user_id=user_id, now=now)

    def _still_good(self, entry: _Entry, holder: Holder | None, now: datetime) -> bool:
        in_time = holder is None or holder.ends_at > now
        return in_time and not entry.invalidated and self._feed.fresh()

    async def _load(
        self, session_id: uuid.UUID, *, user_id: uuid.UUID, now: datetime
    ) -> tuple[_Entry, Holder | None]:
        """Wait for this session's load, begun now if none is under way."""
        entry = self._entries.get(session_id)
        if entry is None or entry.load is None:
            entry = self._start_load(session_id, user_id=user_id, now=now)
        assert entry.load is not None
        # Shielded: when one waiting request is cancelled, the load continues for the others.
        return entry, await asyncio.shield(entry.load)

    def _start_load(self, session_id: uuid.UUID, *, user_id: uuid.UUID, now: datetime) -> _Entry:
        self._forget(session_id)
        if len(self._entries) >= self._size:
            # Evict the least recently used entry.
            self._forget(next(iter(self._entries)))
        load = asyncio.create_task(self._ask(session_id, user_id=user_id, now=now))
        entry = self._entries[session_id] = _Entry(user_id, load)
        self._sessions_of.setdefault(user_id, set()).add(session_id)
        # Added first, so it runs before the requests that wait for this load continue.
        load.add_done_callback(lambda load: self._end_load(session_id, entry, load))
        return entry

    def _end_load(
        self, session_id: uuid.UUID, entry: _Entry, load: asyncio.Task[Holder | None]
    ) -> None:
        failed = load.cancelled() or load.exception() is not None
        entry.load, entry.holder = None, None if failed else load.result()
        if entry.holder is None and not entry.invalidated:
            self._remove(session_id)

    async def close(self) -> None:
        """Give up the loads under way. The requests that waited for them have ended."""
        loads = [entry.load for entry in self._entries.values() if entry.load is not None]
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def on_change(self, change: Change) -> None:
        """Drop the entries that the change affects, also those that are still loading."""
        match change:
            case Change("session", uuid.UUID() as session_id):
                touched = [session_id]
            case Change("user", uuid.UUID() as user_id):
                touched = list(self._sessions_of.get(user_id, ()))
            case Change("token" | "keys"):
                touched = []
            case _:
                touched = list(self._entries)
        self.counts.forgotten += sum(self._forget(session_id) for session_id in touched)

    def _forget(self, session_id: uuid.UUID) -> bool:
        """Drop the session's entry, even while it is loading. Return False if there was none."""
        entry = self._remove(session_id)
        if entry is None:
            return False
        entry.invalidated = True
        return True

    def _remove(self, session_id: uuid.UUID) -> _Entry | None:
        entry = self._entries.pop(session_id, None)
        if entry is not None:
            sessions = self._sessions_of[entry.user_id]
            sessions.remove(session_id)
            if not sessions:
                del self._sessions_of[entry.user_id]
        return entry
