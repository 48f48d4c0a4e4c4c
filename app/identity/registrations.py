"""Registered clients: finding them, and which ids are free for new ones."""

import uuid

from sqlalchemy import String, bindparam, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import is_storable
from app.db.locks import Lock, take_lock
from app.db.paging import paginate
from app.errors import Conflict, NotFound
from app.identity.models import Registration, User
from app.identity.names import username_key


class ClientNotFound(NotFound):
    """No client has that id."""

    text = "There is no such client."


class ClientIdTaken(Conflict):
    """A client or a service account has that id, perhaps in other letter case."""

    text = "A client or a service account has this id: choose another."


async def find_registration(db: AsyncSession, client_id: str) -> Registration | None:
    """Return the client with this id, to the letter; None for one that was deleted."""
    if not is_storable(client_id):
        return None
    return await db.scalar(_BY_CLIENT_ID, {"client_id": client_id})


# Built once, because every sign-in runs it.
_BY_CLIENT_ID = select(Registration).where(
    Registration.client_id == bindparam("client_id", type_=String()),
    Registration.deleted_at.is_(None),
)


async def is_registered(db: AsyncSession, account_id: uuid.UUID) -> bool:
    """Whether a client's secrets are those of this service account; also one that was deleted."""
    statement = select(exists().where(Registration.account_id == account_id))
    return bool(await db.scalar(statement))


async def has_live_client(db: AsyncSession, account_id: uuid.UUID) -> bool:
    """Whether a client's secrets are those of this service account; not one that was deleted."""
    of_client = exists().where(
        Registration.account_id == account_id, Registration.deleted_at.is_(None)
    )
    return bool(await db.scalar(select(of_client)))


async def get_registration(db: AsyncSession, client_id: str, *, lock: bool = False) -> Registration:
    """Return the client with this id. `lock`: until the commit. Raises ClientNotFound."""
    statement = select(Registration).where(
        Registration.client_id == client_id, Registration.deleted_at.is_(None)
    )
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = await db.scalar(statement)
    if found is None:
        raise ClientNotFound
    return found


async def list_registrations(
    db: AsyncSession, *, after: str | None = None, limit: int | None = None
) -> list[Registration]:
    """Return the clients, by their ids: up to `limit` of those after the given one."""
    statement = select(Registration).where(Registration.deleted_at.is_(None))
    return await paginate(db, statement, Registration.client_id, after=after, limit=limit)


async def require_free_client_id(db: AsyncSession, client_id: str) -> None:
    """Return only if no client and no service account has this id, in any letter case.

    Until the commit, no other transaction gives it to one. Raises ClientIdTaken.
    """
    await require_no_client(db, client_id)
    key = username_key(client_id)
    if await db.scalar(select(User.id).where(User.kind == "service", User.username_key == key)):
        raise ClientIdTaken


async def require_no_client(db: AsyncSession, name: str) -> None:
    """Return only if no client has this id, in any letter case: for a new service account.

    Until the commit, no other transaction gives it to one. Raises ClientIdTaken.
    """
    await take_lock(db, Lock.CLIENT_IDS)
    # Ids are ASCII: this is how `username_key` folds them, whatever the server's locale is.
    folded = func.lower(Registration.client_id.collate("C"))
    taken = select(Registration.id).where(
        Registration.deleted_at.is_(None), folded == username_key(name)
    )
    if await db.scalar(taken):
        raise ClientIdTaken
