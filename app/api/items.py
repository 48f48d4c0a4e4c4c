"""Items: the sample resource. One's own, or all of them for an admin."""

import uuid
from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from app.access.authority import Caller
from app.access.principals import Principal
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.schemas import Page, PageSize, Text
from app.api.security import CanReadItems, CanWriteItems, Router
from app.items import items
from app.views import Listed

router = Router(prefix="/items", tags=["items"], responses=PROTECTED | refusals(422))


Title = Annotated[Text, Field(min_length=1, max_length=200)]
Description = Annotated[Text, Field(max_length=10_000)]


class NewItem(BaseModel):
    """An item to create."""

    title: Title
    description: Description | None = None


class ItemChange(BaseModel):
    """What to change of an item; what is absent stays."""

    title: Title | SkipJsonSchema[None] = None
    description: Description | None = None

    @model_validator(mode="after")
    def _title_stays_a_title(self) -> Self:
        if "title" in self.model_fields_set and self.title is None:
            raise ValueError("An item has a title: leave it out to keep it.")
        return self


class ItemAnswer(Listed):
    """An item."""

    id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    description: str | None
    created_at: datetime
    updated_at: datetime


@router.get("")
async def list_items(
    principal: CanReadItems,
    db: ReadDep,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> Page[ItemAnswer]:
    """Items, oldest first."""
    found = await items.list_items(
        db, owner_id=_visible_to(principal), after=after, limit=limit + 1
    )
    return Page.of([ItemAnswer.model_validate(item) for item in found], limit=limit)


@router.post("", status_code=201, responses=refusals(413))
async def create_item(new: NewItem, work: CanWriteItems) -> ItemAnswer:
    """A new item of one's own."""
    item = await items.create_item(work, title=new.title, description=new.description)
    return ItemAnswer.model_validate(item)


@router.get("/{item_id}", responses=refusals(404))
async def get_item(item_id: uuid.UUID, principal: CanReadItems, db: ReadDep) -> ItemAnswer:
    """One item."""
    item = await items.get_item(db, item_id, owner_id=_visible_to(principal))
    return ItemAnswer.model_validate(item)


@router.patch("/{item_id}", responses=refusals(404, 413))
async def change_item(item_id: uuid.UUID, change: ItemChange, work: CanWriteItems) -> ItemAnswer:
    """The item, changed."""
    item = await items.change_item(
        work,
        item_id,
        owner_id=_visible_to(work.actor),
        changes=change.model_dump(exclude_unset=True),
    )
    return ItemAnswer.model_validate(item)


@router.delete("/{item_id}", status_code=204, responses=refusals(404))
async def delete_item(item_id: uuid.UUID, work: CanWriteItems) -> None:
    """The item is gone."""
    await items.delete_item(work, item_id, owner_id=_visible_to(work.actor))


def _visible_to(whom: Principal | Caller) -> uuid.UUID | None:
    if whom.is_admin:
        return None
    # Without a user it would be everything.
    assert whom.user_id is not None
    return whom.user_id
