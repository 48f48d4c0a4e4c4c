"""Locks on users: a change of a user, or the end of their sessions, excludes logins as them.

These are advisory locks: Postgres grants them first in, first out. Row share locks are not: steady
logins would make a lock on the row wait for ever.
"""

import uuid
from collections.abc import Iterable

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

_HIGHEST_BIT = -(1 << 63)
# Built once, because each login runs it.
_HOLD = select(func.pg_advisory_xact_lock(bindparam("key", type_=BigInteger())))
_SHARE = select(func.pg_advisory_xact_lock_shared(bindparam("key", type_=BigInteger())))


async def hold_users(db: AsyncSession, *user_ids: uuid.UUID | None) -> None:
    """Hold these users until the commit: no other transaction holds them or signs in as them."""
    for key in _in_order(filter(None, user_ids)):
        await db.execute(_HOLD, {"key": key})


async def share_users(db: AsyncSession, *user_ids: uuid.UUID) -> None:
    """Share these users until the commit: no transaction holds them, others may sign in."""
    for key in _in_order(user_ids):
        await db.execute(_SHARE, {"key": key})


def _in_order(user_ids: Iterable[uuid.UUID]) -> list[int]:
    # Sorted, so that two transactions that lock the same users never deadlock.
    return sorted(map(_lock_key, user_ids))


def _lock_key(user_id: uuid.UUID) -> int:
    # The end of a UUIDv7, which is random. Two users with the same key only wait for each other. A
    # UUIDv7 has the highest bit set; it is also set here for invented ids, so that a key never
    # equals a `Lock`.
    return int.from_bytes(user_id.bytes[8:], signed=True) | _HIGHEST_BIT
