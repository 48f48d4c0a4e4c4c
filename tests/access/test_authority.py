"""Authority at its edges: the last admin, and two who act at once."""

import asyncio
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import select

from app.access.authority import (
    BeyondAuthority,
    Caller,
    confirm_caller,
)
from app.access.client_registry import delete_client
from app.access.grants import grant
from app.errors import InvalidToken
from app.identity.account_writes import create_service
from app.identity.models import User
from app.runtime import Runtime
from tests.support.browsing import register
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, bearer, login, make_user, signed_in
from tests.support.locks import hashing_held


async def test_a_grant_and_what_it_forbids_do_not_pass_each_other(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Whoever sets a name or the like while a scope is granted comes before it or is refused."""
    clerk = await bearer(own_client, await make_user(own_runtime, "write:users"))
    user = await make_user(own_runtime)
    async with own_runtime.work(OPERATOR) as work:
        await grant(work, user.id, "admin")
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
    async with runtime.work(OPERATOR) as work:
        robot, _ = await create_service(work, username="robot")
        await grant(work, robot.id, "read:items")
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


@pytest.mark.parametrize(("scope", "lasts"), [("admin", True), ("write:users", False)])
async def test_a_password_is_not_set_for_whoever_was_granted_more_while_it_was_hashed(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, scope: str, lasts: bool
) -> None:
    """What the one who sets it doesn't hold, or holds for less long."""
    end = None if lasts else own_runtime.now() + timedelta(hours=1)
    clerk = await bearer(own_client, await make_user(own_runtime, "write:users", expires_at=end))
    user = await make_user(own_runtime)
    new, path = {"password": "something else entirely"}, f"/users/{user.id}/password"
    async with hashing_held(own_runtime) as held:
        setting = asyncio.create_task(own_client.post(path, json=new, headers=clerk))
        await held.until_waiting()
        async with own_runtime.work(OPERATOR) as work:
            await grant(work, user.id, scope)
    assert (await setting).status_code == 403
    assert (await login(own_client, user)).status_code == 200, "the password is the old one"


async def test_a_scope_held_for_an_hour_is_passed_on_for_that_hour_and_no_moment_longer(
    runtime: Runtime, clock: MovableClock
) -> None:
    soon = clock() + timedelta(hours=1)
    on_call = await make_user(runtime, "read:items", expires_at=soon)
    caller = await signed_in(runtime, on_call, "read:items")
    user = await make_user(runtime)
    async with runtime.work(caller) as work:
        await grant(work, user.id, "read:items", expires_at=soon)
        for longer in (soon + timedelta(microseconds=1), None):
            with pytest.raises(BeyondAuthority, match="as long"):
                await grant(work, user.id, "read:items", expires_at=longer)


async def test_a_request_of_no_session_has_no_authority(runtime: Runtime) -> None:
    root = await make_user(runtime, "admin")
    caller = Caller(user_id=root.id)
    async with runtime.work(caller) as work:
        with pytest.raises(InvalidToken):
            await confirm_caller(work)


async def test_the_account_of_a_client_is_managed_by_those_alone_who_hold_its_ceiling(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """With another secret they could ask for all that the client may have."""
    clerk = await bearer(client, await make_user(runtime, "write:users", "read:items"))
    ceilings: dict[str, tuple[list[str], bool]] = {
        "within": (["read:items"], False),
        "beyond": (["read:items", "read:audit"], False),
        "trusted": (["read:items"], True),
    }
    accounts = {}
    for client_id, (scopes, trusted) in ceilings.items():
        await register(runtime, client_id, confidential=True, scopes=scopes, trusted=trusted)
        async with runtime.reading() as db:
            account = select(User.id).where(User.username == client_id)
            accounts[client_id] = (await db.scalars(account)).one()

    async def another_secret(client_id: str) -> int:
        path = f"/users/{accounts[client_id]}/secrets"
        return (await client.post(path, headers=clerk)).status_code

    assert {each: await another_secret(each) for each in ceilings} == {
        "within": 201,
        "beyond": 403,
        "trusted": 403,
    }
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, "beyond")
    assert await another_secret("beyond") == 201, "of what is no client any more"
