"""Scopes: the ones that ship, and those of other services that trust these tokens."""

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel

from app.access.registry import register_scope, remove_scope
from app.access.scopes import MAX_SCOPE, SCOPE_TOKEN, registered_scopes
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.schemas import Page, PageSize, Remark, Text
from app.api.security import AnyPrincipal, CanWriteScopes, Router
from app.views import ScopeAnswer

router = Router(prefix="/scopes", tags=["scopes"], responses=PROTECTED | refusals(422))


# The pattern is for OpenAPI alone: what does not match is refused in words, by the registry.
NewScopeName = Annotated[
    str,
    Path(
        max_length=MAX_SCOPE,
        json_schema_extra={"pattern": rf"^(?!(.*/)?\.\.?(/|$)){SCOPE_TOKEN}$"},
    ),
]


class ScopeDescription(BaseModel):
    """What the scope allows."""

    description: Remark


@router.get("")
async def list_scopes(
    _: AnyPrincipal, db: ReadDep, limit: PageSize = 20, after: Text | None = None
) -> Page[ScopeAnswer]:
    """Every scope that can be granted, by name."""
    found = await registered_scopes(db, after=after, limit=limit + 1)
    return Page.of([ScopeAnswer.model_validate(each) for each in found], limit=limit)


@router.put("/{name:scope}", responses=refusals(409, 413))
async def put_scope(
    name: NewScopeName, scope: ScopeDescription, work: CanWriteScopes
) -> ScopeAnswer:
    """A scope that can be granted; that alone gives it to no user. Repeating it changes nothing."""
    registered = await register_scope(work, name, description=scope.description)
    return ScopeAnswer.model_validate(registered)


@router.delete("/{name:scope}", status_code=204, responses=refusals(404, 409))
async def delete_scope(name: str, work: CanWriteScopes) -> None:
    """Delete a scope. Not while it is granted, and not one that ships."""
    await remove_scope(work, name)
