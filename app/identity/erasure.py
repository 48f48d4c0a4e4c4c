"""Erasure: what becomes of an account's own row, and of the rows that refer to it.

The account's row is emptied at once and stays for a moment, without a name. Requests that are under
way then fail as with a disabled account, and not at a row that is missing. What they still write is
removed with the row.

Which rows are the account's is read from the tables' foreign keys, so that no table is forgotten.
"""

import hashlib
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    Column,
    CursorResult,
    ForeignKey,
    Table,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import Base
from app.identity.models import User

ROW_KEPT = timedelta(minutes=1)
"""After the erasure the emptied row goes: no request that was under way lasts as long."""
ACCOUNTS_AT_ONCE = 10
"""Erased accounts that one transaction of housekeeping clears away."""
KEPT_COLUMNS = frozenset({"id", "kind", "created_at", "ended_epoch", "link_epoch"})
"""Of an emptied row. Every other column gets a value that tells nothing of the person."""


def emptied(user_id: uuid.UUID, *, now: datetime) -> dict[str, Any]:
    """Return the values of all columns of an erased account's row that are not kept."""
    # No user can have a name with a space.
    name = f"erased {user_id}"
    given: dict[str, Any] = {
        "username": name,
        "username_key": name,
        "username_skeleton": hashlib.sha256(name.encode()).digest(),
        "disabled_at": func.coalesce(User.disabled_at, now),
        "erased_at": now,
        "email_chosen_by": None,
        "session_epoch": User.session_epoch + 1,
    }
    columns = cast(Table, User.__table__).columns.keys()
    return dict.fromkeys(set(columns) - KEPT_COLUMNS) | given


def references() -> Iterator[tuple[Column[Any], ForeignKey]]:
    """Yield each column that refers to users, in every table there is."""
    for table in Base.metadata.sorted_tables:
        for key in sorted(table.foreign_keys, key=lambda each: each.parent.name):
            if key.column.table is User.__table__:
                yield key.parent, key


async def clear_rows(db: AsyncSession, user_id: uuid.UUID, *, limit: int) -> bool:
    """Delete up to `limit` rows of each table that are this user's. False: there may be more.

    A row of another user's that only mentions them stays, and mentions no user any more.
    """
    finished = True
    for column, key in references():
        table = column.table
        primary = tuple_(*table.primary_key.columns)
        some = select(*table.primary_key.columns).where(column == user_id).limit(limit)
        if key.ondelete == "CASCADE":
            statement: Any = delete(table).where(primary.in_(some))
        else:
            statement = update(table).where(primary.in_(some)).values({column: None})
        cleared = cast("CursorResult[Any]", await db.execute(statement))
        finished = finished and cleared.rowcount < limit
    return finished


async def remove_erased(db: AsyncSession, *, now: datetime, limit: int) -> int:
    """Clear away up to `limit` rows a table of some erased accounts, and their own rows at the end.

    Return `limit` while there is more to do, else 0.
    """
    erased = (
        select(User.id, User.erased_at <= now - ROW_KEPT)
        .where(User.erased_at.is_not(None))
        .order_by(User.erased_at)
        .limit(ACCOUNTS_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    found = (await db.execute(erased)).all()
    more, removed = False, 0
    for user_id, due in found:
        if not await clear_rows(db, user_id, limit=limit):
            more = True
        elif due:
            await db.execute(delete(User).where(User.id == user_id))
            removed += 1
    return limit if more or removed == ACCOUNTS_AT_ONCE else 0
