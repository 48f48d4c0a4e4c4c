"""When personal access tokens were used last: noted beside the requests, and written by and by."""

import uuid
from datetime import datetime

from sqlalchemy import ARRAY, DateTime, Uuid, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.identity.models import Session
from app.identity.session_writes import USE_NOTED_AFTER

BATCH = 1000
"""Tokens that one statement writes."""


class LastUses:
    """The uses that this process has seen since it wrote them down. A request waits for none."""

    def __init__(self) -> None:
        self._used: dict[uuid.UUID, datetime] = {}

    def __len__(self) -> int:
        return len(self._used)

    def note(self, session_id: uuid.UUID, *, now: datetime) -> None:
        """Remember that this token was used now."""
        self._used[session_id] = now

    async def write(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        """Write down the uses, to the minute: of a token, at most one a minute.

        What can't be written for an error is written the next time.
        """
        used, self._used = self._used, {}
        left = list(used.items())
        try:
            while left:
                async with sessions.begin() as db:
                    await _write(db, dict(left[:BATCH]))
                del left[:BATCH]
        except BaseException:
            self._used = dict(left) | self._used
            raise


async def _write(db: AsyncSession, used: dict[uuid.UUID, datetime]) -> None:
    uses = (
        func.unnest(
            literal(list(used), ARRAY(Uuid())),
            literal(list(used.values()), ARRAY(DateTime(timezone=True))),
        )
        .table_valued("id", "at")
        .render_derived()
    )
    # A row that is locked is skipped, so that this never waits for a change of the user, nor two
    # replicas for each other. The next use is soon enough.
    due = (
        select(Session.id, uses.c.at)
        .join(uses, uses.c.id == Session.id)
        .where(
            # The first use at once: a token that has never been used has the two times the same.
            or_(
                Session.last_used_at < uses.c.at - USE_NOTED_AFTER,
                Session.last_used_at == Session.created_at,
            )
        )
        .with_for_update(skip_locked=True)
        .cte()
    )
    noting = update(Session).where(Session.id == due.c.id).values(last_used_at=due.c.at)
    await db.execute(noting.execution_options(synchronize_session=False))
