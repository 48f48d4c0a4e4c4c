"""Grants: giving a user a scope, and taking it back."""

import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime

from sqlalchemy import delete, func, or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from app.access.authority import END_OF_TIME, Caller, keep_an_admin, managed_user, require_holding
from app.access.models import Grant
from app.access.scopes import ADMIN, SHIPPED, ScopeNotRegistered, is_scope_name
from app.audit.log import record
from app.db.base import is_storable
from app.db.changes import Change
from app.db.work import Work
from app.errors import Refused

MAX_REMARK = 500
"""Characters of a grant's reason, or of a scope's description."""


async def grant(
    work: Work[Caller],
    user_id: uuid.UUID,
    scope: str,
    *,
    expires_at: datetime | None = None,
    reason: str | None = None,
    force: bool = False,
) -> None:
    """Grant the scope to the user, until `expires_at` if that is given.

    Repeating it changes nothing. A different end or reason replaces the old one. Raises
    UserNotFound, ScopeNotRegistered, BeyondAuthority, Refused for a past end or an unfit reason,
    LastAdmin if it would give the last admin's `admin` an end, unless forced, and InvalidToken if
    the caller was disabled or signed out meanwhile.
    """
    if not is_scope_name(scope):
        raise ScopeNotRegistered
    if expires_at is not None and expires_at <= work.now:
        raise Refused("This end is past: to take a scope back, revoke it.")
    if reason is not None:
        check_remark(reason)
    await managed_user(work, user_id)
    await require_holding(work, scope, until=expires_at or END_OF_TIME)
    if scope == ADMIN and expires_at is not None and not force:
        await keep_an_admin(work, user_id)
    work.publish(Change("user", user_id))
    # Not when the transaction began: until it held the user, others may have changed them.
    terms = {"granted_at": func.clock_timestamp(), "expires_at": expires_at, "reason": reason}
    statement = (
        insert(Grant)
        .values(user_id=user_id, scope=scope, granted_by=work.actor.user_id, **terms)
        .on_conflict_do_update(
            index_elements=[Grant.user_id, Grant.scope],
            set_={"granted_by": work.actor.user_id, **terms},
            where=or_(
                Grant.expires_at.is_distinct_from(expires_at),
                Grant.reason.is_distinct_from(reason),
            ),
        )
        .returning(Grant.scope)
    )
    try:
        async with work.savepoint():
            changed = await work.db.scalar(statement)
    except IntegrityError:
        raise ScopeNotRegistered(*({scope} & SHIPPED.keys())) from None
    if changed:
        # Without the reason: it is text, which may name a person.
        record(work, "grant.made", subject=user_id, scope=scope, expires_at=expires_at)


async def grant_to_newcomers(
    work: Work[Caller], scopes: Mapping[uuid.UUID, AbstractSet[str]]
) -> None:
    """Grant registered scopes to users that this transaction has created.

    No other transaction sees these users yet, so they need no lock and no cache holds them. Raises
    what `require_holding` raises.
    """
    # Always in the same order, so that two transactions that need the same scopes never deadlock.
    for scope in sorted(frozenset[str]().union(*scopes.values())):
        await require_holding(work, scope, until=END_OF_TIME)
        for user_id in (each for each, wanted in scopes.items() if scope in wanted):
            work.db.add(Grant(user_id=user_id, scope=scope, granted_by=work.actor.user_id))
            record(work, "grant.made", subject=user_id, scope=scope, expires_at=None)


async def revoke(
    work: Work[Caller], user_id: uuid.UUID, scope: str, *, force: bool = False
) -> bool:
    """Take the scope back. Tokens that were already issued lose it too.

    Return False if the user did not hold it. Raises UserNotFound, BeyondAuthority, InvalidToken if
    the caller was disabled or signed out meanwhile, and LastAdmin for the last admin's `admin`,
    unless forced.
    """
    await managed_user(work, user_id)
    await require_holding(work, scope, until=work.now)
    if scope == ADMIN and not force:
        await keep_an_admin(work, user_id)
    work.publish(Change("user", user_id))
    removed = await work.db.scalar(
        delete(Grant).where(Grant.user_id == user_id, Grant.scope == scope).returning(Grant.scope)
    )
    if removed:
        record(work, "grant.revoked", subject=user_id, scope=scope)
    return removed is not None


def check_remark(text: str) -> None:
    """Return only if it can be kept, and shown in full. Raises Refused."""
    if len(text) > MAX_REMARK:
        raise Refused(f"A reason or a description has at most {MAX_REMARK} characters.")
    if not is_storable(text):
        raise Refused("A reason or a description is text: no NUL and no broken characters.")
