"""Scopes: the ones that ship, and those of other services that trust these tokens."""

from app.access.authority import confirm_caller
from app.access.scopes import register_scope, registered_scopes, remove_scope
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.schemas import Limit, NewScopeName, Page, ScopeAnswer, ScopeDescription, Text
from app.api.security import AnyPrincipal, CanWriteScopes, Router

router = Router(prefix="/scopes", tags=["scopes"], responses=PROTECTED | refusals(422))


@router.get("")
async def list_scopes(
    _: AnyPrincipal, session: SessionDep, limit: Limit = 20, after: Text | None = None
) -> Page[ScopeAnswer]:
    """Every scope that can be granted, by name."""
    found = await registered_scopes(session, after=after, limit=limit + 1)
    return Page.of([ScopeAnswer.model_validate(each) for each in found], limit=limit)


@router.put("/{name}", responses=refusals(409, 413))
async def put_scope(
    name: NewScopeName,
    scope: ScopeDescription,
    caller: CanWriteScopes,
    runtime: RuntimeDep,
    session: SessionDep,
) -> ScopeAnswer:
    """A scope that can be granted; that alone gives it to nobody. Repeating it changes nothing."""
    await confirm_caller(session, by=caller, now=runtime.now())
    registered = await register_scope(session, name, description=scope.description, by=caller)
    return ScopeAnswer.model_validate(registered)


@router.delete("/{name}", status_code=204, responses=refusals(404, 409))
async def delete_scope(
    name: str, caller: CanWriteScopes, runtime: RuntimeDep, session: SessionDep
) -> None:
    """The scope is no more. Not while it is granted, and not one that ships."""
    now = runtime.now()
    await confirm_caller(session, by=caller, now=now)
    await remove_scope(session, name, by=caller, now=now)
