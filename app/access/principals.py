"""The memory of principals: who a request is from, and which of its token's scopes count now.

What the database says of a session is remembered, for as long as the change feed vouches that
nothing has changed since. While it does not, the database is asked each time.
"""

import asyncio
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select

from app.access.holders import Holder, Principal, load_holder
from app.db.changes import Change, ChangeFeed
from app.db.work import Connect


@dataclass(slots=True)
class Counts:
    """How the cache answered the lookups so far."""

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    """Lookups past the cache: by introspection, without a fresh feed, or with a cache of size 0."""
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

    def may_be_of(self, registration_id: uuid.UUID) -> bool:
        """Return whether the session may be one of this client: unknown while it is loaded."""
        if self.holder is None:
            return True
        limit = self.holder.limit
        return limit is not None and limit.registration_id == registration_id


class Principals:
    """The principals of live sessions: those of `size` sessions are remembered, at most."""

    def __init__(self, connect: Connect, feed: ChangeFeed, *, size: int) -> None:
        self._connect = connect
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

    async def ask(
        self,
        session_id: uuid.UUID,
        *,
        user_id: uuid.UUID,
        now: datetime,
        by: Select[Any] | None = None,
        **also: object,
    ) -> Holder | None:
        """Return the holder as `load_holder` does, whatever is remembered.

        The answer was true at some moment since the call.
        """
        self.counts.bypassed += 1
        return await self._read(session_id, user_id=user_id, now=now, by=by, **also)

    def remembers(self, holder: Holder, *, now: datetime) -> bool:
        """Return whether this is what is remembered of its session, and all of it counts now.

        The caller has seen that the change feed is fresh. As in `find`, this counts as a use.
        """
        entry = self._entries.get(holder.session_id)
        if entry is None or entry.holder is not holder or holder.ends_at <= now:
            return False
        self.counts.hits += 1
        self._entries.move_to_end(holder.session_id)
        return True

    async def _find_holder(
        self, session_id: uuid.UUID, *, user_id: uuid.UUID, now: datetime
    ) -> Holder | None:
        if not (self._size and self._feed.fresh()):
            return await self.ask(session_id, user_id=user_id, now=now)
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
        load = asyncio.create_task(self._read(session_id, user_id=user_id, now=now))
        entry = self._entries[session_id] = _Entry(user_id, load)
        self._sessions_of.setdefault(user_id, set()).add(session_id)
        # Added first, so it runs before the requests that wait for this load continue.
        load.add_done_callback(lambda load: self._end_load(session_id, entry, load))
        return entry

    async def _read(
        self,
        session_id: uuid.UUID,
        *,
        user_id: uuid.UUID,
        now: datetime,
        by: Select[Any] | None = None,
        **also: object,
    ) -> Holder | None:
        async with self._connect() as db:
            return await load_holder(db, session_id, user_id=user_id, now=now, by=by, **also)

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
            case Change("client", uuid.UUID() as registration_id):
                # All that are remembered are looked through: a client rarely changes.
                touched = [
                    each
                    for each, entry in self._entries.items()
                    if entry.may_be_of(registration_id)
                ]
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
