"""Grants: given once or again, taken back once or again, and only of scopes that there are."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.access.authority import OPERATOR
from app.access.grants import grant, revoke
from app.access.holdings import granted_scopes
from app.access.models import Grant
from app.access.scopes import ScopeNotRegistered
from app.errors import Refused
from app.identity.users import UserNotFound
from app.runtime import Runtime
from tests.clock import MovableClock
from tests.factories import make_user, signed_in


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
