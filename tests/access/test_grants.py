"""Grants: given once or again, taken back once or again, and only of scopes that there are."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.access.authority import BeyondAuthority
from app.access.grants import grant, grant_to_newcomers, revoke
from app.access.holdings import granted_until
from app.access.models import Grant
from app.access.scopes import ScopeNotRegistered
from app.errors import Refused
from app.identity.users import UserNotFound
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.factories import OPERATOR, make_user, signed_in


async def test_granting_again_renews_the_terms_and_revoking_again_is_nothing(
    runtime: Runtime,
) -> None:
    user, admin = await make_user(runtime), await make_user(runtime, "admin")
    later = runtime.now() + timedelta(hours=1)
    caller = await signed_in(runtime, admin, "admin")
    async with runtime.work(OPERATOR) as work:
        await grant(work, user.id, "read:items", reason="a")
    async with runtime.work(caller) as work:
        await grant(work, user.id, "read:items", expires_at=later, reason="b")
        row = await work.db.scalar(select(Grant).where(Grant.user_id == user.id))
        assert row
        assert (row.expires_at, row.reason, row.granted_by) == (later, "b", admin.id)
        assert (await granted_until(work.db, user.id, now=work.now)).keys() == {"read:items"}
        assert (await granted_until(work.db, user.id, now=later)).keys() == set()
        assert await revoke(work, user.id, "read:items")
        assert not await revoke(work, user.id, "read:items")


async def test_granting_the_same_again_changes_and_tells_nothing_and_another_term_does(
    runtime: Runtime,
) -> None:
    user = await make_user(runtime)
    later = runtime.now() + timedelta(hours=1)
    terms: list[dict[str, Any]] = [
        {"expires_at": later, "reason": "a"},
        {"expires_at": later, "reason": "b"},
        {"expires_at": None, "reason": "b"},
        {"expires_at": None, "reason": None},
    ]
    expected = []
    for each in terms:
        for _ in range(2):
            async with runtime.work(OPERATOR) as work:
                await grant(work, user.id, "read:items", **each)
        end = each["expires_at"] and each["expires_at"].isoformat().replace("+00:00", "Z")
        # Without the reason, which may name a person.
        expected.append((None, user.id, {"scope": "read:items", "expires_at": end}))
        async with runtime.sessions() as db:
            assert await told(db, "grant.made") == expected


async def test_revoking_takes_one_scope_of_one_user_and_tells_which(runtime: Runtime) -> None:
    user = await make_user(runtime, "read:items", "write:items")
    other = await make_user(runtime, "read:items", "write:items")
    admin = await make_user(runtime, "admin")
    async with runtime.work(await signed_in(runtime, admin, "admin")) as work:
        assert await revoke(work, user.id, "read:items")
        now = work.now
        assert (await granted_until(work.db, user.id, now=now)).keys() == {"write:items"}
        assert (await granted_until(work.db, other.id, now=now)).keys() == {
            "read:items",
            "write:items",
        }
        assert await told(work.db, "grant.revoked") == [
            (admin.id, user.id, {"scope": "read:items"})
        ]


async def test_newcomers_get_scopes_without_end_from_whoever_holds_them(runtime: Runtime) -> None:
    one, other = await make_user(runtime), await make_user(runtime)
    granter = await make_user(runtime, "read:items", "write:items")
    caller = await signed_in(runtime, granter, "read:items", "write:items")
    async with runtime.work(caller) as work:
        before = len(await told(work.db, "grant.made"))
        wanted = {one.id: {"read:items", "write:items"}, other.id: {"read:items"}}
        await grant_to_newcomers(work, wanted)
        await work.db.flush()
        made = await work.db.execute(
            select(Grant.user_id, Grant.scope, Grant.granted_by, Grant.expires_at, Grant.reason)
            .where(Grant.user_id.in_(wanted))
            .order_by(Grant.scope, Grant.user_id)
        )
        expected = [(one.id, "read:items"), (other.id, "read:items"), (one.id, "write:items")]
        assert [tuple(each) for each in made] == [
            (*each, granter.id, None, None) for each in expected
        ]
        terms = {"expires_at": None}
        assert (await told(work.db, "grant.made"))[before:] == [
            (granter.id, user_id, {"scope": scope, **terms}) for user_id, scope in expected
        ]
        with pytest.raises(BeyondAuthority):
            await grant_to_newcomers(work, {one.id: {"write:users"}})


async def test_only_registered_scopes_are_granted_to_users_there_are_until_some_time_to_come(
    runtime: Runtime,
) -> None:
    user = await make_user(runtime)
    async with runtime.work(OPERATOR) as work:
        with pytest.raises(ScopeNotRegistered):
            await grant(work, user.id, "no:such")
        with pytest.raises(UserNotFound):
            await grant(work, uuid.uuid4(), "admin")
        with pytest.raises(Refused):
            await grant(work, user.id, "admin", expires_at=work.now)
        await grant(work, user.id, "read:items")
