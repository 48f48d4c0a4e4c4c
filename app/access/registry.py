"""Register scopes of other services, and remove them."""

from sqlalchemy import delete, or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from app.access.authority import Caller, confirm_caller
from app.access.grants import check_remark
from app.access.models import Grant, Scope
from app.access.resources import is_resource
from app.access.scopes import IDENTITY, MAX_SCOPE, SHIPPED, ScopeNotRegistered, is_scope_name
from app.audit.log import record
from app.db.work import Work
from app.errors import Conflict, Refused


class ScopeShips(Conflict):
    """The service itself relies on that scope."""

    text = "This scope ships with Scopegate and stays as it is."


class ScopeGranted(Conflict):
    """A user holds the scope."""

    text = "This scope is granted: revoke it everywhere first."


async def register_scope(
    work: Work[Caller], name: str, *, description: str, resource: str | None = None
) -> Scope:
    """Register a scope that can be granted. That alone gives it to no user.

    `resource` is the URI of the service that it belongs to (RFC 8707). Repeating it changes
    nothing. Raises Refused for a name that can't be granted by its path, an unfit description or
    resource, ScopeShips, or what `confirm_caller` raises.
    """
    await confirm_caller(work)
    # Clients leave "." and ".." out of a path, as RFC 3986 §5.2.4 has it.
    in_a_path = {".", ".."}.isdisjoint(name.split("/"))
    if not is_scope_name(name) or not in_a_path or len(name) > MAX_SCOPE:
        raise Refused(
            f"A scope's name has up to {MAX_SCOPE} of RFC 6749's characters. No part of it between "
            "slashes is one or two dots."
        )
    check_remark(description)
    if name in SHIPPED:
        raise ScopeShips
    if name in IDENTITY:
        raise Refused(f"{name} is OpenID Connect's: no service can have it for itself.")
    if resource is not None and not is_resource(resource):
        raise Refused("A resource is an absolute URI without a fragment (RFC 8707 §2).")
    said = {"description": description, "resource": resource}
    statement = (
        insert(Scope)
        .values(name=name, **said)
        .on_conflict_do_update(
            index_elements=[Scope.name],
            set_=said,
            where=or_(Scope.description != description, Scope.resource.is_distinct_from(resource)),
        )
    )
    if await work.db.scalar(statement.returning(Scope.name)):
        told = said if resource is not None else {"description": description}
        record(work, "scope.registered", scope=name, **told)
    return await work.db.get_one(Scope, name, populate_existing=True)


async def remove_scope(work: Work[Caller], name: str) -> None:
    """Remove a scope: it can't be asked for or granted any more.

    Raises ScopeNotRegistered, ScopeShips, ScopeGranted while a user holds it, or what
    `confirm_caller` raises.
    """
    await confirm_caller(work)
    if name in SHIPPED:
        raise ScopeShips
    await work.db.execute(delete(Grant).where(Grant.scope == name, Grant.expires_at <= work.now))
    try:
        async with work.savepoint():
            removed = await work.db.scalar(
                delete(Scope).where(Scope.name == name).returning(Scope.name)
            )
    except IntegrityError:
        raise ScopeGranted from None
    if removed is None:
        raise ScopeNotRegistered
    record(work, "scope.removed", scope=name)
