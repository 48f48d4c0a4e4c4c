"""Locks on users: whoever changes one or ends their sessions keeps out who would sign in as them.

By advisory locks, which are given in the order in which they are asked for. A lock on the row would
be overtaken by ever more logins, each of which shares it with those before.
"""

import uuid
from collections.abc import Iterable

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

_HIGHEST_BIT = -(1 << 63)
# Built once, because each login asks it.
_HOLD = select(func.pg_advisory_xact_lock(bindparam("key", type_=BigInteger())))
_SHARE = select(func.pg_advisory_xact_lock_shared(bindparam("key", type_=BigInteger())))


async def hold_users(session: AsyncSession, *user_ids: uuid.UUID | None) -> None:
    """Until the commit nobody else holds these users, and nobody signs in as one of them."""
    for key in _in_order(filter(None, user_ids)):
        await session.execute(_HOLD, {"key": key})


async def share_users(session: AsyncSession, *user_ids: uuid.UUID) -> None:
    """Until the commit nobody holds these users: they may sign in, as others do as them."""
    for key in _in_order(user_ids):
        await session.execute(_SHARE, {"key": key})


def _in_order(user_ids: Iterable[uuid.UUID]) -> list[int]:
    # One order for all: of two who want each other's users one waits, and neither for ever.
    return sorted(map(_lock_key, user_ids))


def _lock_key(user_id: uuid.UUID) -> int:
    # The end of a UUIDv7, which is random. Two users of one key would only wait for each other.
    # Its highest bit is set; in what somebody made up it must be, or it could be another lock's.
    return int.from_bytes(user_id.bytes[8:], signed=True) | _HIGHEST_BIT
