"""Authority at its edges: the last admin, and two who act at once."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, func, select

from app.access.accounts import disable_account
from app.access.authority import OPERATOR, BeyondAuthority, Caller, LastAdmin
from app.access.grants import grant, revoke
from app.access.holdings import granted_scopes
from app.access.models import Grant
from app.errors import InvalidToken
from app.identity.clients import create_service
from app.identity.models import User
from app.identity.sessions import end_session
from app.runtime import Runtime
from tests.clock import MovableClock
from tests.factories import bearer, login, make_user, signed_in
from tests.processes import until

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


async def test_whoever_is_admin_for_an_hour_takes_over_nobody_who_holds_anything_for_longer(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    soon = clock() + timedelta(hours=1)
    on_call = await bearer(client, await make_user(runtime, "admin", expires_at=soon))
    peer = await make_user(runtime, "admin", expires_at=soon)
    root = await make_user(runtime, "admin")
    reader = await make_user(runtime, "read:items")
    async with runtime.unit_of_work() as session:
        robot, _ = await create_service(session, username="robot", by=OPERATOR)
        terms: dict[str, Any] = {"user_id": robot.id, "scope": "read:items", "by": OPERATOR}
        await grant(session, **terms, now=clock())
    new = {"password": "something else entirely"}
    for user in (root, reader):
        path = f"/users/{user.id}"
        answers = [
            await client.post(f"{path}/password", json=new, headers=on_call),
            await client.patch(path, json={"username": "mine"}, headers=on_call),
            await client.patch(path, json={"disabled": False}, headers=on_call),
        ]
        assert [answer.status_code for answer in answers] == [403] * 3
    assert (await client.post(f"/users/{robot.id}/secrets", headers=on_call)).status_code == 403
    # What takes away, they may: that is what somebody on call is for.
    taken = [
        await client.delete(f"/users/{reader.id}/sessions", headers=on_call),
        await client.delete(f"/users/{reader.id}/grants/read:items", headers=on_call),
        await client.post(f"/users/{reader.id}/password", json=new, headers=on_call),
        await client.post(f"/users/{peer.id}/password", json=new, headers=on_call),
        await client.delete(f"/users/{robot.id}/sessions", headers=on_call),
    ]
    assert [answer.status_code for answer in taken] == [204] * 5


async def test_a_password_is_not_set_for_whoever_was_granted_more_while_it_was_hashed(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    clerk = await bearer(own_client, await make_user(own_runtime, "write:users"))
    user = await make_user(own_runtime)
    hasher, gate = own_runtime.hasher, threading.Event()
    busy = [asyncio.ensure_future(hasher._run(gate.wait)) for _ in range(hasher._threads)]
    new, path = {"password": "something else entirely"}, f"/users/{user.id}/password"
    setting = asyncio.create_task(own_client.post(path, json=new, headers=clerk))
    try:
        await until(lambda: hasher._pending > len(busy))
        async with own_runtime.unit_of_work() as session:
            await grant(session, user_id=user.id, scope="admin", by=OPERATOR, now=own_runtime.now())
    finally:
        gate.set()
    assert (await setting).status_code == 403
    assert (await login(own_client, user)).status_code == 200, "the password is the old one"


async def disable(runtime: Runtime, caller: Caller) -> None:
    assert caller.user_id
    async with runtime.unit_of_work() as session:
        await disable_account(session, caller.user_id, by=OPERATOR, now=runtime.now())


async def sign_out(runtime: Runtime, caller: Caller) -> None:
    assert caller.session_id
    async with runtime.unit_of_work() as session:
        await end_session(session, caller.session_id, reason="test", by=OPERATOR, now=runtime.now())


async def revoke_the_right_to_grant(runtime: Runtime, caller: Caller) -> None:
    assert caller.user_id
    async with runtime.unit_of_work() as session:
        await revoke(
            session, user_id=caller.user_id, scope="write:grants", by=OPERATOR, now=runtime.now()
        )


@pytest.mark.parametrize("put_out", [disable, sign_out, revoke_the_right_to_grant])
async def test_a_request_under_way_of_somebody_who_was_put_out_changes_nothing(
    runtime: Runtime, put_out: Callable[[Runtime, Caller], Coroutine[Any, Any, None]]
) -> None:
    await make_user(runtime, "admin")
    scopes = ("write:grants", "read:items")
    caller = await signed_in(runtime, await make_user(runtime, *scopes), *scopes)
    user = await make_user(runtime)
    # The caller is as they were when the request began.
    await put_out(runtime, caller)
    now = runtime.now()
    async with runtime.unit_of_work() as session:
        with pytest.raises((InvalidToken, BeyondAuthority)):
            await grant(session, user_id=user.id, scope="read:items", by=caller, now=now)
        assert await granted_scopes(session, user.id, now=now) == set()


async def test_who_is_being_disabled_grants_nothing_any_more(own_runtime: Runtime) -> None:
    await make_user(own_runtime, "admin")
    scopes = ("write:grants", "read:items")
    caller = await signed_in(own_runtime, await make_user(own_runtime, *scopes), *scopes)
    assert caller.user_id
    user, now = await make_user(own_runtime), own_runtime.now()

    async def give() -> None:
        async with own_runtime.unit_of_work() as session:
            await grant(session, user_id=user.id, scope="read:items", by=caller, now=now)

    async with own_runtime.unit_of_work() as session:
        await disable_account(session, caller.user_id, by=OPERATOR, now=now)
        giving = asyncio.create_task(give())
        await asyncio.wait({giving}, timeout=0.2)
    with pytest.raises(InvalidToken):
        await giving
