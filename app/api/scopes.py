"""Scopes: the ones that ship, and those of other services that trust these tokens."""

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field

from app.access.registry import ScopeGranted, ScopeShips, register_scope, remove_scope
from app.access.resources import MAX_RESOURCE, RESOURCE
from app.access.scopes import (
    MAX_SCOPE,
    SCOPE_TOKEN,
    ScopeNotRegistered,
    registered_scopes,
)
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.routing import Router
from app.api.schemas import Page, PageSize, Remark, Text
from app.api.security import AnyPrincipal, CanWriteScopes
from app.views import ScopeAnswer, example

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

    model_config = example(description="Read orders")

    description: Remark
    # The pattern is for OpenAPI alone, as above.
    resource: (
        Annotated[
            Text,
            Field(max_length=MAX_RESOURCE, json_schema_extra={"pattern": f"^{RESOURCE}$"}),
        ]
        | None
    ) = Field(
        None,
        description="The service that it belongs to: an absolute URI (RFC 8707). Left out: none.",
    )


class ScopePage(Page[ScopeAnswer]):
    """One page of scopes, by name."""


@router.get("", summary="List scopes")
async def list_scopes(
    _: AnyPrincipal, db: ReadDep, limit: PageSize = 20, after: Text | None = None
) -> ScopePage:
    """Every scope that can be granted, by name."""
    found = await registered_scopes(db, after=after, limit=limit + 1)
    return ScopePage.of([ScopeAnswer.of(each) for each in found], limit=limit)


@router.put(
    "/{name:scope}",
    summary="Register scope",
    responses=refusals(409, 413, texts={409: str(ScopeShips())}),
)
async def put_scope(
    name: NewScopeName, scope: ScopeDescription, work: CanWriteScopes
) -> ScopeAnswer:
    """A scope that can be granted; that alone gives it to no user. Repeating it changes nothing."""
    registered = await register_scope(
        work, name, description=scope.description, resource=scope.resource
    )
    return ScopeAnswer.of(registered)


@router.delete(
    "/{name:scope}",
    summary="Delete scope",
    status_code=204,
    responses=refusals(404, 409, texts={404: str(ScopeNotRegistered()), 409: str(ScopeGranted())}),
)
async def delete_scope(name: str, work: CanWriteScopes) -> None:
    """Delete a scope. Not while it is granted, and not one that ships."""
    await remove_scope(work, name)
