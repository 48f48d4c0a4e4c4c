"""Requests under way whose caller is disabled, signed out or loses a scope: none goes on."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest

from app.access import accounts
from app.access.authority import (
    BeyondAuthority,
    Caller,
    confirm_caller,
    managed_user,
)
from app.access.grants import grant, revoke
from app.access.holdings import granted_until
from app.errors import InvalidToken
from app.identity.login import change_password
from app.identity.session_writes import end_session, end_sessions_of
from app.identity.users import user_of_id
from app.runtime import Runtime
from tests.support.factories import OPERATOR, PASSWORD, bearer, caller_of, make_user, signed_in
from tests.support.locks import hashing_held


async def disable(runtime: Runtime, caller: Caller) -> None:
    assert caller.user_id
    async with runtime.work(OPERATOR) as work:
        await accounts.disable(work, caller.user_id)


async def sign_out(runtime: Runtime, caller: Caller) -> None:
    assert caller.session_id
    async with runtime.work(OPERATOR) as work:
        await end_session(work, caller.session_id, reason="test")


async def revoke_the_right_to_grant(runtime: Runtime, caller: Caller) -> None:
    assert caller.user_id
    async with runtime.work(OPERATOR) as work:
        await revoke(work, caller.user_id, "write:grants")


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
    async with runtime.work(caller) as work:
        with pytest.raises((InvalidToken, BeyondAuthority)):
            await grant(work, user.id, "read:items")
        assert (await granted_until(work.db, user.id, now=work.now)).keys() == set()


@pytest.mark.parametrize("put_out", [disable, sign_out])
async def test_who_is_put_out_while_a_password_is_hashed_makes_nobody_and_sets_none(
    own_client: httpx2.AsyncClient,
    own_runtime: Runtime,
    put_out: Callable[[Runtime, Caller], Coroutine[Any, Any, None]],
) -> None:
    await make_user(own_runtime, "admin")
    clerk = await make_user(own_runtime, "write:users")
    token = await bearer(own_client, clerk)
    me = (await own_client.get("/users/me/sessions", headers=token)).json()["items"][0]
    caller = await caller_of(own_runtime, clerk, uuid.UUID(me["id"]))
    new = {"username": "mine", "password": PASSWORD}
    async with hashing_held(own_runtime) as held:
        making = asyncio.create_task(own_client.post("/users", json=new, headers=token))
        await held.until_waiting()
        await put_out(own_runtime, caller)
    assert (await making).status_code == 401
    token = await bearer(own_client, await make_user(own_runtime, "read:users"))
    found = await own_client.get("/users?q=mine", headers=token)
    assert found.json()["items"] == []
    with pytest.raises(InvalidToken):
        await change_password(
            own_runtime.guard,
            clerk.id,
            session_id=uuid.UUID(me["id"]),
            current=PASSWORD,
            new="something else entirely",
            actor=caller,
        )


async def test_who_is_put_out_registers_and_removes_no_scope(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    root = await make_user(own_runtime, "admin")
    other = await make_user(own_runtime, "admin")
    token = await bearer(own_client, other)
    async with own_runtime.work(OPERATOR) as work:
        await accounts.disable(work, other.id)
        putting = asyncio.create_task(
            own_client.put("/scopes/x:y", json={"description": "Mine"}, headers=token)
        )
        removing = asyncio.create_task(own_client.delete("/scopes/x:y", headers=token))
        await asyncio.wait({putting, removing}, timeout=0.2)
    assert [(await each).status_code for each in (putting, removing)] == [401, 401]
    scopes = (await own_client.get("/scopes", headers=await bearer(own_client, root))).json()
    assert "x:y" not in {each["name"] for each in scopes["items"]}


async def test_who_is_being_disabled_grants_nothing_any_more(own_runtime: Runtime) -> None:
    await make_user(own_runtime, "admin")
    scopes = ("write:grants", "read:items")
    caller = await signed_in(own_runtime, await make_user(own_runtime, *scopes), *scopes)
    assert caller.user_id
    user = await make_user(own_runtime)

    async def give() -> None:
        async with own_runtime.work(caller) as work:
            await grant(work, user.id, "read:items")

    async with own_runtime.work(OPERATOR) as work:
        await accounts.disable(work, caller.user_id)
        giving = asyncio.create_task(give())
        await asyncio.wait({giving}, timeout=0.2)
    with pytest.raises(InvalidToken):
        await giving


async def test_who_is_losing_a_scope_does_nothing_by_it_any_more(own_runtime: Runtime) -> None:
    scopes = ("write:grants", "read:items")
    caller = await signed_in(own_runtime, await make_user(own_runtime, *scopes), *scopes)
    assert caller.user_id
    user = await make_user(own_runtime)

    async def give() -> None:
        async with own_runtime.work(caller) as work:
            await grant(work, user.id, "read:items")

    async def go_on() -> None:
        async with own_runtime.work(caller) as work:
            await confirm_caller(work)

    async with own_runtime.work(OPERATOR) as work:
        await revoke(work, caller.user_id, "read:items")
        trying = [asyncio.create_task(each()) for each in (give, go_on)]
        await asyncio.wait(trying, timeout=0.2)
    for each in trying:
        with pytest.raises(BeyondAuthority):
            await each


async def test_who_ends_sessions_in_two_ways_at_once_waits_for_nobody_in_a_circle(
    own_runtime: Runtime,
) -> None:
    """As an admin who ends all their own, by `/users/me` and by `/users/{id}`."""
    root = await make_user(own_runtime, "admin")
    await signed_in(own_runtime, root)
    caller = await signed_in(own_runtime, root, "admin")

    async def end_all() -> None:
        async with own_runtime.work(OPERATOR) as work:
            await end_sessions_of(work, root.id, reason="test")

    async with own_runtime.work(caller) as work:
        await managed_user(work, root.id)
        other = asyncio.create_task(end_all())
        await asyncio.wait({other}, timeout=0.2)
        await end_sessions_of(work, root.id, reason="test")
    await other


async def test_who_signs_a_caller_out_waits_for_what_the_caller_has_begun(
    own_runtime: Runtime,
) -> None:
    caller = await signed_in(own_runtime, await make_user(own_runtime))
    async with own_runtime.work(caller) as work:
        await confirm_caller(work)
        signing_out = asyncio.create_task(sign_out(own_runtime, caller))
        done, _ = await asyncio.wait({signing_out}, timeout=0.2)
        assert not done
    await signing_out


async def test_an_account_is_changed_as_it_is_once_nobody_else_can_change_it(
    own_runtime: Runtime,
) -> None:
    user = await make_user(own_runtime)
    async with own_runtime.work(OPERATOR) as work:
        seen = await user_of_id(work.db, user.id)
        assert seen.disabled_at is None
        await disable(own_runtime, Caller(user_id=user.id))
        assert await managed_user(work, user.id) is seen
        assert seen.disabled_at is not None
