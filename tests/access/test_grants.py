"""Grants: given once or again, taken back once or again, and only of scopes that there are."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.access.grants import ScopeNotRegistered, grant, granted_scopes, revoke
from app.access.models import Grant
from app.runtime import Runtime
from tests.factories import make_user


async def test_granting_again_renews_the_terms_and_revoking_again_is_nothing(
    runtime: Runtime,
) -> None:
    user, admin = await make_user(runtime), await make_user(runtime)
    now = runtime.now()
    async with runtime.unit_of_work() as session:
        await grant(session, user_id=user.id, scope="read:items", granted_by=admin.id, reason="a")
        later = now + timedelta(hours=1)
        await grant(session, user_id=user.id, scope="read:items", expires_at=later, reason="b")
        row = await session.scalar(select(Grant))
        assert row
        assert (row.expires_at, row.reason, row.granted_by) == (later, "b", None)
        assert await granted_scopes(session, user.id, now=now) == {"read:items"}
        assert await granted_scopes(session, user.id, now=later) == set()
        assert await revoke(session, user_id=user.id, scope="read:items")
        assert not await revoke(session, user_id=user.id, scope="read:items")


async def test_only_registered_scopes_are_granted(runtime: Runtime) -> None:
    user = await make_user(runtime)
    async with runtime.unit_of_work() as session:
        with pytest.raises(ScopeNotRegistered):
            await grant(session, user_id=user.id, scope="no:such")
        await grant(session, user_id=user.id, scope="read:items")
