"""Authority at its edges: the last admin, and two who act at once."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, func, select

from app.access.authority import OPERATOR, LastAdmin, disable_account
from app.access.grants import grant, revoke
from app.access.models import Grant
from app.identity.models import User
from app.runtime import Runtime
from tests.factories import bearer, make_user

Attempt = Callable[[httpx2.AsyncClient, dict[str, str], uuid.UUID], Coroutine[Any, Any, int]]


async def disable_by_api(
    client: httpx2.AsyncClient, token: dict[str, str], user_id: uuid.UUID
) -> int:
    body = {"disabled": True}
    return (await client.patch(f"/users/{user_id}", json=body, headers=token)).status_code


async def revoke_by_api(
    client: httpx2.AsyncClient, token: dict[str, str], user_id: uuid.UUID
) -> int:
    path = f"/users/{user_id}/grants/admin"
    return (await client.delete(path, headers=token)).status_code


async def end_by_api(client: httpx2.AsyncClient, token: dict[str, str], user_id: uuid.UUID) -> int:
    path, body = f"/users/{user_id}/grants/admin", {"expires_at": "2100-01-01T00:00:00Z"}
    return (await client.put(path, json=body, headers=token)).status_code


ATTEMPTS = [disable_by_api, revoke_by_api, end_by_api]


@pytest.mark.parametrize("other", ATTEMPTS)
@pytest.mark.parametrize("one", ATTEMPTS)
async def test_of_two_admins_who_put_each_other_out_at_once_one_stays(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, one: Attempt, other: Attempt
) -> None:
    for _ in range(5):
        async with own_runtime.unit_of_work() as session:
            await session.execute(delete(User))
        alice, bob = [await make_user(own_runtime, "admin") for _ in range(2)]
        tokens = [await bearer(own_client, each) for each in (alice, bob)]
        statuses = await asyncio.gather(
            one(own_client, tokens[0], bob.id), other(own_client, tokens[1], alice.id)
        )
        # Who comes second is no admin any more, or is the last one.
        assert sorted(statuses)[0] in {200, 204}
        assert sorted(statuses)[1] in {401, 403, 409}
        assert await lasting_admins(own_runtime) == 1


async def lasting_admins(runtime: Runtime) -> int:
    holders = (
        select(func.count())
        .select_from(Grant)
        .join(User, User.id == Grant.user_id)
        .where(Grant.scope == "admin", Grant.expires_at.is_(None), User.disabled_at.is_(None))
    )
    async with runtime.sessions() as session:
        return await session.scalar(holders) or 0


async def test_the_last_admin_stays_unless_an_operator_insists(runtime: Runtime) -> None:
    root, now = await make_user(runtime, "admin"), runtime.now()
    soon = now + timedelta(hours=1)
    await make_user(runtime, "admin", expires_at=soon)
    async with runtime.unit_of_work() as session:
        terms: dict[str, Any] = {"user_id": root.id, "scope": "admin", "by": OPERATOR, "now": now}
        with pytest.raises(LastAdmin):
            await revoke(session, **terms)
        with pytest.raises(LastAdmin):
            await grant(session, **terms, expires_at=soon)
        with pytest.raises(LastAdmin):
            await disable_account(session, root.id, by=OPERATOR, now=now)
    assert await lasting_admins(runtime) == 1
    async with runtime.unit_of_work() as session:
        await grant(session, **terms, expires_at=soon, force=True)
        await revoke(session, **terms, force=True)
        await disable_account(session, root.id, by=OPERATOR, now=now, force=True)
    assert await lasting_admins(runtime) == 0


async def test_a_disabled_admin_is_none(runtime: Runtime) -> None:
    one, other = [await make_user(runtime, "admin") for _ in range(2)]
    async with runtime.unit_of_work() as session:
        await disable_account(session, one.id, by=OPERATOR, now=runtime.now())
        with pytest.raises(LastAdmin):
            await disable_account(session, other.id, by=OPERATOR, now=runtime.now())
        await disable_account(session, one.id, by=OPERATOR, now=runtime.now())


async def test_a_grant_and_what_it_forbids_do_not_pass_each_other(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Whoever sets a name or the like while a scope is granted comes before it or is refused."""
    clerk = await bearer(own_client, await make_user(own_runtime, "write:users"))
    user = await make_user(own_runtime)
    async with own_runtime.unit_of_work() as session:
        await grant(session, user_id=user.id, scope="admin", by=OPERATOR, now=own_runtime.now())
        renaming = asyncio.create_task(
            own_client.patch(f"/users/{user.id}", json={"username": "mine"}, headers=clerk)
        )
        await asyncio.wait({renaming}, timeout=0.2)
    assert (await renaming).status_code == 403
