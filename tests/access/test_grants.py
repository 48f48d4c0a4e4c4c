"""Grants: given once or again, taken back once or again, and only of scopes that there are."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.access.authority import OPERATOR, BeyondAuthority
from app.access.grants import grant, grant_to_newcomers, revoke
from app.access.holdings import granted_scopes
from app.access.models import Grant
from app.access.scopes import ScopeNotRegistered
from app.errors import Refused
from app.identity.users import UserNotFound
from app.runtime import Runtime
from tests.clock import MovableClock
from tests.factories import make_user, signed_in
from tests.telling import told


async def test_granting_again_renews_the_terms_and_revoking_again_is_nothing(
    runtime: Runtime,
) -> None:
    user, admin = await make_user(runtime), await make_user(runtime, "admin")
    now = runtime.now()
    later = now + timedelta(hours=1)
    by = await signed_in(runtime, admin, "admin")
    terms: dict[str, Any] = {"user_id": user.id, "scope": "read:items"}
    async with runtime.unit_of_work() as session:
        await grant(session, **terms, by=OPERATOR, reason="a", now=now)
        await grant(session, **terms, by=by, expires_at=later, reason="b", now=now)
        row = await session.scalar(select(Grant).where(Grant.user_id == user.id))
        assert row
        assert (row.expires_at, row.reason, row.granted_by) == (later, "b", admin.id)
        assert await granted_scopes(session, user.id, now=now) == {"read:items"}
        assert await granted_scopes(session, user.id, now=later) == set()
        assert await revoke(session, **terms, by=by, now=now)
        assert not await revoke(session, **terms, by=by, now=now)


async def test_granting_the_same_again_changes_and_tells_nothing_and_another_term_does(
    runtime: Runtime,
) -> None:
    user, now = await make_user(runtime), runtime.now()
    later = now + timedelta(hours=1)
    granted: dict[str, Any] = {"user_id": user.id, "scope": "read:items"}
    terms: list[dict[str, Any]] = [
        {"expires_at": later, "reason": "a"},
        {"expires_at": later, "reason": "b"},
        {"expires_at": None, "reason": "b"},
        {"expires_at": None, "reason": None},
    ]
    expected = []
    for each in terms:
        for _ in range(2):
            async with runtime.unit_of_work() as session:
                await grant(session, **granted, **each, by=OPERATOR, now=now)
        end = each["expires_at"] and each["expires_at"].isoformat().replace("+00:00", "Z")
        detail = {"scope": "read:items", "expires_at": end, "reason": each["reason"]}
        expected.append((None, user.id, detail))
        async with runtime.sessions() as session:
            assert await told(session, "grant.made") == expected


async def test_revoking_takes_one_scope_of_one_user_and_tells_which(runtime: Runtime) -> None:
    user = await make_user(runtime, "read:items", "write:items")
    other = await make_user(runtime, "read:items", "write:items")
    admin = await make_user(runtime, "admin")
    by, now = await signed_in(runtime, admin, "admin"), runtime.now()
    async with runtime.unit_of_work() as session:
        assert await revoke(session, user_id=user.id, scope="read:items", by=by, now=now)
        assert await granted_scopes(session, user.id, now=now) == {"write:items"}
        assert await granted_scopes(session, other.id, now=now) == {"read:items", "write:items"}
        assert await told(session, "grant.revoked") == [
            (admin.id, user.id, {"scope": "read:items"})
        ]


async def test_newcomers_get_scopes_without_end_from_whoever_holds_them(runtime: Runtime) -> None:
    one, other = await make_user(runtime), await make_user(runtime)
    granter = await make_user(runtime, "read:items", "write:items")
    by = await signed_in(runtime, granter, "read:items", "write:items")
    now = runtime.now()
    async with runtime.unit_of_work() as session:
        before = len(await told(session, "grant.made"))
        wanted = {one.id: {"read:items", "write:items"}, other.id: {"read:items"}}
        await grant_to_newcomers(session, wanted, by=by, now=now)
        await session.flush()
        made = await session.execute(
            select(Grant.user_id, Grant.scope, Grant.granted_by, Grant.expires_at, Grant.reason)
            .where(Grant.user_id.in_(wanted))
            .order_by(Grant.scope, Grant.user_id)
        )
        expected = [(one.id, "read:items"), (other.id, "read:items"), (one.id, "write:items")]
        assert [tuple(each) for each in made] == [
            (*each, granter.id, None, None) for each in expected
        ]
        terms = {"expires_at": None, "reason": None}
        assert (await told(session, "grant.made"))[before:] == [
            (granter.id, user_id, {"scope": scope, **terms}) for user_id, scope in expected
        ]
        with pytest.raises(BeyondAuthority):
            await grant_to_newcomers(session, {one.id: {"write:users"}}, by=by, now=now)


async def test_only_registered_scopes_are_granted_to_users_there_are_until_some_time_to_come(
    runtime: Runtime, clock: MovableClock
) -> None:
    user, now = await make_user(runtime), clock()
    async with runtime.unit_of_work() as session:
        with pytest.raises(ScopeNotRegistered):
            await grant(session, user_id=user.id, scope="no:such", by=OPERATOR, now=now)
        with pytest.raises(UserNotFound):
            await grant(session, user_id=uuid.uuid4(), scope="admin", by=OPERATOR, now=now)
        with pytest.raises(Refused):
            await grant(
                session, user_id=user.id, scope="admin", by=OPERATOR, expires_at=now, now=now
            )
        await grant(session, user_id=user.id, scope="read:items", by=OPERATOR, now=now)
