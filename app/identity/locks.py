"""Locks on users: changes of one user, and what that user does to others, exclude each other.

These are advisory locks: they are taken before anything is read, in an order that never deadlocks.
A login takes none (decision 0024).
"""

import uuid
from collections.abc import Iterable

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

_HIGHEST_BIT = -(1 << 63)
_HOLD = select(func.pg_advisory_xact_lock(bindparam("key", type_=BigInteger())))


async def hold_users(db: AsyncSession, *user_ids: uuid.UUID | None) -> None:
    """Hold these users until the commit: no other transaction holds them."""
    for key in _in_order(filter(None, user_ids)):
        await db.execute(_HOLD, {"key": key})


def _in_order(user_ids: Iterable[uuid.UUID]) -> list[int]:
    # Sorted, so that two transactions that lock the same users never deadlock.
    return sorted(map(_lock_key, user_ids))


def _lock_key(user_id: uuid.UUID) -> int:
    # The end of a UUIDv7, which is random. Two users with the same key only wait for each other. A
    # UUIDv7 has the highest bit set; it is also set here for invented ids, so that a key never
    # equals a `Lock`.
    return int.from_bytes(user_id.bytes[8:], signed=True) | _HIGHEST_BIT
