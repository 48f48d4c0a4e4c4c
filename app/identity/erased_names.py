"""Names of erased accounts: taken for a while, and known by keyed digests alone.

Otherwise a stranger could take the name at once, and be given what was meant for the other. Each
name leaves two digests: of the name as it is compared, and of what it looks like.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import LargeBinary, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert

from app.crypto import KeyedDigests
from app.db.locks import Lock, take_lock
from app.db.work import Actor, Work
from app.identity.models import ErasedName
from app.identity.names import username_key, username_skeleton
from app.identity.users import not_addresses, not_lookalikes

NAMES_KEPT = timedelta(days=30)
"""After the erasure, a name is free again."""
_NAME = b"erased name"
# Two ASCII names never count as alike: so it is kept which kind of name looked so.
_LOOKS = {True: b"erased ASCII name looks", False: b"erased name looks"}


async def free_names(
    work: Work[Actor], names: Sequence[str], *, of: UUID | None = None
) -> set[str]:
    """Return the names that a user may have: unlike others', no address of another, not erased.

    As `not_lookalikes` does, whose lock is held until the commit.
    """
    free = await not_lookalikes(work.db, names, of=of)
    free &= await not_addresses(work.db, sorted(free), of=of)
    digests = work.database.digests
    wanted = {name: _recognised(digests, name) for name in free}
    every = [digest for found in wanted.values() for digest in found]
    if not every:
        return free
    statement = select(ErasedName.digest).where(
        ErasedName.digest == any_(literal(every, ARRAY(LargeBinary))),
        ErasedName.erased_at > work.now - NAMES_KEPT,
    )
    kept = set(await work.db.scalars(statement))
    return {name for name in free if kept.isdisjoint(wanted[name])}


async def lock_names(work: Work[Actor]) -> None:
    """Wait until no other transaction adds a name, and let none do so until the commit.

    Else it could wait for the erased row to go, and then take the name.
    """
    await take_lock(work.db, Lock.LOOKALIKE_NAMES)


async def keep_name(work: Work[Actor], username: str) -> None:
    """Keep the digests of the name of an account that is erased now, after `lock_names`."""
    digests, ascii_name = work.database.digests, username.isascii()
    rows = [
        {"digest": digests.make(purpose, message), "erased_at": work.now}
        for purpose, message in (
            (_NAME, username_key(username).encode()),
            (_LOOKS[ascii_name], username_skeleton(username)),
        )
    ]
    adding = insert(ErasedName).values(rows)
    await work.db.execute(
        adding.on_conflict_do_update(
            index_elements=[ErasedName.digest], set_={"erased_at": adding.excluded.erased_at}
        )
    )


def _recognised(digests: KeyedDigests, name: str) -> list[bytes]:
    """Return each digest whose being kept makes this name taken."""
    found = digests.recognise(_NAME, username_key(name).encode())
    looks = username_skeleton(name)
    for ascii_name in (False,) if name.isascii() else (False, True):
        found += digests.recognise(_LOOKS[ascii_name], looks)
    return found
