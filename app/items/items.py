"""Items: the sample resource, and the pattern for one's own.

`owner_id=None` means all users' items; the routes pass it for admins alone.
"""

import uuid
from typing import Any

from sqlalchemy import ColumnElement, Row, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.paging import Pages
from app.db.work import Actor, Work
from app.errors import NotFound
from app.items.models import Item


class ItemNotFound(NotFound):
    """No such item, or another user's: the caller must not learn which."""

    text = "There is no such item."


async def create_item(work: Work[Actor], *, title: str, description: str | None) -> Item:
    """Add an item that belongs to the actor."""
    item = Item(owner_id=work.actor.user_id, title=title, description=description)
    work.db.add(item)
    await work.db.flush()
    await work.db.refresh(item)
    return item


async def list_items(
    db: AsyncSession, *, owner_id: uuid.UUID | None, after: uuid.UUID | None, limit: int
) -> list[Row[Any]]:
    """Up to `limit` items, oldest first, that come after the given one."""
    if owner_id is None:
        return await _ALL.rows(db, after=after, limit=limit)
    return await _OWN.rows(db, after=after, limit=limit, owner_id=owner_id)


# Rows and no objects, as nothing is changed. Built once: that takes longer than to run them.
_ITEMS = select(*Item.__table__.columns)
_ALL = Pages(_ITEMS, Item.id)
_OWN = Pages(_ITEMS.where(Item.owner_id == bindparam("owner_id")), Item.id)


async def get_item(db: AsyncSession, item_id: uuid.UUID, *, owner_id: uuid.UUID | None) -> Item:
    """That item. Raises ItemNotFound."""
    item = await db.scalar(select(Item).where(Item.id == item_id, *_owned_by(owner_id)))
    if item is None:
        raise ItemNotFound
    return item


async def change_item(
    work: Work[Actor],
    item_id: uuid.UUID,
    *,
    owner_id: uuid.UUID | None,
    changes: dict[str, str | None],
) -> Item:
    """The item with these columns changed. Raises ItemNotFound."""
    if not changes:
        return await get_item(work.db, item_id, owner_id=owner_id)
    statement = update(Item).where(Item.id == item_id, *_owned_by(owner_id)).values(**changes)
    item: Item | None = await work.db.scalar(statement.returning(Item))
    if item is None:
        raise ItemNotFound
    return item


async def delete_item(work: Work[Actor], item_id: uuid.UUID, *, owner_id: uuid.UUID | None) -> None:
    """Remove the item. Raises ItemNotFound."""
    statement = delete(Item).where(Item.id == item_id, *_owned_by(owner_id))
    if await work.db.scalar(statement.returning(Item.id)) is None:
        raise ItemNotFound


def _owned_by(owner_id: uuid.UUID | None) -> list[ColumnElement[bool]]:
    return [] if owner_id is None else [Item.owner_id == owner_id]
