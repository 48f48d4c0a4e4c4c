"""Items: the sample resource. One's own, or all of them for an admin."""

import uuid

from app.access.principals import Principal
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import SessionDep
from app.api.schemas import ItemAnswer, ItemChange, Limit, NewItem, Page
from app.api.security import CanReadItems, CanWriteItems, Router
from app.items import items

router = Router(prefix="/items", tags=["items"], responses=PROTECTED | refusals(422))


@router.get("")
async def list_items(
    principal: CanReadItems,
    session: SessionDep,
    limit: Limit = 20,
    after: uuid.UUID | None = None,
) -> Page[ItemAnswer]:
    """Items, oldest first."""
    found = await items.list_items(
        session, owner_id=_visible_to(principal), after=after, limit=limit + 1
    )
    return Page.of([ItemAnswer.model_validate(item) for item in found], limit=limit)


@router.post("", status_code=201, responses=refusals(413))
async def create_item(new: NewItem, principal: CanWriteItems, session: SessionDep) -> ItemAnswer:
    """A new item of one's own."""
    item = await items.create_item(
        session, owner_id=principal.user_id, title=new.title, description=new.description
    )
    return ItemAnswer.model_validate(item)


@router.get("/{item_id}", responses=refusals(404))
async def get_item(item_id: uuid.UUID, principal: CanReadItems, session: SessionDep) -> ItemAnswer:
    """One item."""
    item = await items.get_item(session, item_id, owner_id=_visible_to(principal))
    return ItemAnswer.model_validate(item)


@router.patch("/{item_id}", responses=refusals(404, 413))
async def change_item(
    item_id: uuid.UUID, change: ItemChange, principal: CanWriteItems, session: SessionDep
) -> ItemAnswer:
    """The item, changed."""
    item = await items.change_item(
        session,
        item_id,
        owner_id=_visible_to(principal),
        changes=change.model_dump(exclude_unset=True),
    )
    return ItemAnswer.model_validate(item)


@router.delete("/{item_id}", status_code=204, responses=refusals(404))
async def delete_item(item_id: uuid.UUID, principal: CanWriteItems, session: SessionDep) -> None:
    """The item is gone."""
    await items.delete_item(session, item_id, owner_id=_visible_to(principal))


def _visible_to(principal: Principal) -> uuid.UUID | None:
    return None if principal.is_admin else principal.user_id
