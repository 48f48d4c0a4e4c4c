"""Locks on users: a change of a user, or the end of their sessions, excludes logins as them.

By advisory locks, which are given in the order in which they are asked for. A lock on the row would
wait for ever behind logins, each of which shares it with those before.
"""

import uuid
from collections.abc import Iterable

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

_HIGHEST_BIT = -(1 << 63)
# Built once, because each login asks it.
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
    # One order for all: of two who want each other's users one waits, and neither for ever.
    return sorted(map(_lock_key, user_ids))


def _lock_key(user_id: uuid.UUID) -> int:
    # The end of a UUIDv7, which is random. Two users of one key would only wait for each other.
    # Its highest bit is set; in an invented id it must be set, or it could be another lock's.
    return int.from_bytes(user_id.bytes[8:], signed=True) | _HIGHEST_BIT
