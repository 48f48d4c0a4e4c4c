"""Items: the sample resource. A user's own, or all of them for an admin."""

import uuid
from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from app.access.authority import Caller
from app.access.holders import Principal
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.routing import Router
from app.api.schemas import Page, PageSize, Text
from app.api.security import CanReadItems, CanWriteItems
from app.items import items
from app.views import ALICE, Listed, example

router = Router(prefix="/items", tags=["items"], responses=PROTECTED | refusals(422))

MISSING = refusals(404, texts={404: str(items.ItemNotFound())})


Title = Annotated[Text, Field(min_length=1, max_length=200)]
Description = Annotated[Text, Field(max_length=10_000)]


class NewItem(BaseModel):
    """An item to create."""

    model_config = example(title="Lamp", description="For the desk")

    title: Title
    description: Description | None = None


class ItemChange(BaseModel):
    """What to change of an item; what is absent stays."""

    model_config = example(title="Desk lamp")

    title: Title | SkipJsonSchema[None] = None
    description: Description | None = None

    @model_validator(mode="after")
    def _title_stays_a_title(self) -> Self:
        if "title" in self.model_fields_set and self.title is None:
            raise ValueError("An item has a title: leave it out to keep it.")
        return self


class ItemAnswer(Listed):
    """An item."""

    model_config = example(
        id="01890000-0000-7000-8000-000000000040",
        owner_id=ALICE,
        title="Lamp",
        description="For the desk",
        created_at="2027-01-04T08:10:00Z",
        updated_at="2027-01-04T08:10:00Z",
    )

    id: uuid.UUID
    owner_id: uuid.UUID
    title: str
    description: str | None
    created_at: datetime
    updated_at: datetime


class ItemPage(Page[ItemAnswer]):
    """One page of items, oldest first."""


@router.get("", summary="List items")
async def list_items(
    principal: CanReadItems,
    db: ReadDep,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> ItemPage:
    """Items, oldest first."""
    found = await items.list_items(
        db, owner_id=_visible_to(principal), after=after, limit=limit + 1
    )
    return ItemPage.of([ItemAnswer.model_validate(item) for item in found], limit=limit)


@router.post("", summary="Create item", status_code=201, responses=refusals(413))
async def create_item(new: NewItem, work: CanWriteItems) -> ItemAnswer:
    """A new item of your own."""
    item = await items.create_item(work, title=new.title, description=new.description)
    return ItemAnswer.model_validate(item)


@router.get("/{item_id}", summary="Get item", responses=MISSING)
async def get_item(item_id: uuid.UUID, principal: CanReadItems, db: ReadDep) -> ItemAnswer:
    """One item."""
    item = await items.get_item(db, item_id, owner_id=_visible_to(principal))
    return ItemAnswer.model_validate(item)


@router.patch("/{item_id}", summary="Change item", responses=MISSING | refusals(413))
async def change_item(item_id: uuid.UUID, change: ItemChange, work: CanWriteItems) -> ItemAnswer:
    """The item, changed."""
    item = await items.change_item(
        work,
        item_id,
        owner_id=_visible_to(work.actor),
        changes=change.model_dump(exclude_unset=True),
    )
    return ItemAnswer.model_validate(item)


@router.delete("/{item_id}", summary="Delete item", status_code=204, responses=MISSING)
async def delete_item(item_id: uuid.UUID, work: CanWriteItems) -> None:
    """The item is gone."""
    await items.delete_item(work, item_id, owner_id=_visible_to(work.actor))


def _visible_to(whom: Principal | Caller) -> uuid.UUID | None:
    if whom.is_admin:
        return None
    # Without a user it would be everything.
    assert whom.user_id is not None
    return whom.user_id
