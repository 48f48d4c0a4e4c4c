"""Advisory locks: one number each, all in one place.

They are held until the transaction ends, and given in the order in which they are asked for. A
transaction that takes several takes users first, then CLIENT_IDS, LOOKALIKE_NAMES and LAST_ADMIN;
MAIL comes after all of them. A user that a transaction has just made may be held last: no other
knows it.
"""

from enum import IntEnum

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession


class Lock(IntEnum):
    """What a transaction can lock. Users have negative numbers of their own, by their ids."""

    MIGRATION = 0x5C09E6A6
    SIGNING_KEYS = 0x5C09E6A7
    HOUSEKEEPING = 0x5C09E6A8
    LAST_ADMIN = 0x5C09E6A9
    LOOKALIKE_NAMES = 0x5C09E6AA
    CLIENT_IDS = 0x5C09E6AB
    MAIL = 0x5C09E6AC
    TRIGGERS = 0x7216_6E25


async def take_lock(db: AsyncSession, lock: Lock) -> None:
    """Wait until no other transaction has the lock, and hold it until the commit."""
    await db.execute(select(func.pg_advisory_xact_lock(lock.value)))


async def share_lock(db: AsyncSession, lock: Lock) -> None:
    """Wait until no other transaction holds the lock alone, and share it until the commit."""
    await db.execute(select(func.pg_advisory_xact_lock_shared(lock.value)))


async def try_lock(db: AsyncSession, lock: Lock) -> bool:
    """Hold the lock until the commit, if no other transaction has it. Return whether it is held."""
    return bool(await db.scalar(select(func.pg_try_advisory_xact_lock(lock.value))))
