"""Erasure while the same account, or another's authority over it, is used at the same moment."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, func, select

from app.access.erasure import erase
from app.access.models import Grant
from app.identity.account_writes import set_password
from app.identity.models import User
from app.runtime import Runtime
from tests.access.test_erasure import erase_me, erase_user, rows_of
from tests.access.test_last_admin import lasting_admins
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user, sign_in
from tests.support.housekeeping import house
from tests.support.locks import until_waiting

ROUNDS = 8
Use = Callable[[httpx2.AsyncClient, Someone, dict[str, Any]], Coroutine[Any, Any, httpx2.Response]]


@pytest.mark.parametrize("by_path", [False, True], ids=["by themselves", "each other"])
async def test_of_two_last_admins_who_go_at_once_one_stays(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, by_path: bool
) -> None:
    for _ in range(5):
        async with own_runtime.work(OPERATOR) as work:
            await work.db.execute(delete(User))
        alice, bob = [await make_user(own_runtime, "admin") for _ in range(2)]
        tokens = [await bearer(own_client, each) for each in (alice, bob)]
        if by_path:
            going = [
                erase_user(own_client, tokens[0], bob.id),
                erase_user(own_client, tokens[1], alice.id),
            ]
        else:
            going = [erase_me(own_client, each) for each in tokens]
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*going))
        assert statuses[0] == 204
        assert statuses[1] in {401, 403, 409}
        assert by_path or statuses[1] == 409
        assert await lasting_admins(own_runtime) == 1


async def sign_in_again(
    client: httpx2.AsyncClient, user: Someone, _: dict[str, Any]
) -> httpx2.Response:
    return await login(client, user)


async def refresh(
    client: httpx2.AsyncClient, _: Someone, tokens: dict[str, Any]
) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    return await client.post("/token", data=form)


async def make_item(
    client: httpx2.AsyncClient, _: Someone, tokens: dict[str, Any]
) -> httpx2.Response:
    header = {"Authorization": f"Bearer {tokens['access_token']}"}
    return await client.post("/items", json={"title": "Lamp"}, headers=header)


async def be_granted(
    client: httpx2.AsyncClient, user: Someone, tokens: dict[str, Any]
) -> httpx2.Response:
    path = f"/users/{user.id}/grants/read:users"
    return await client.put(path, json={}, headers=tokens["root"])


async def be_renamed(
    client: httpx2.AsyncClient, user: Someone, tokens: dict[str, Any]
) -> httpx2.Response:
    name = f"renamed-{uuid.uuid4().hex}"
    path = f"/users/{user.id}"
    return await client.patch(path, json={"username": name}, headers=tokens["root"])


async def be_enabled(
    client: httpx2.AsyncClient, user: Someone, tokens: dict[str, Any]
) -> httpx2.Response:
    return await client.patch(f"/users/{user.id}", json={"disabled": False}, headers=tokens["root"])


async def get_a_password(
    client: httpx2.AsyncClient, user: Someone, tokens: dict[str, Any]
) -> httpx2.Response:
    body = {"password": "another long password"}
    return await client.post(f"/users/{user.id}/password", json=body, headers=tokens["root"])


async def export(client: httpx2.AsyncClient, _: Someone, tokens: dict[str, Any]) -> httpx2.Response:
    header = {"Authorization": f"Bearer {tokens['access_token']}"}
    return await client.get("/users/me/export", headers=header)


USES = [
    sign_in_again,
    refresh,
    make_item,
    be_granted,
    be_renamed,
    be_enabled,
    get_a_password,
    export,
]


@pytest.mark.parametrize("use", USES)
async def test_nothing_outlives_an_erasure_and_nothing_crashes(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, clock: MovableClock, use: Use
) -> None:
    root = await bearer(own_client, await make_user(own_runtime, "admin"))
    for _ in range(ROUNDS):
        mira = await make_user(own_runtime, "write:items")
        tokens = {**(await sign_in(own_client, mira)).tokens, "root": root}
        header = {"Authorization": f"Bearer {tokens['access_token']}"}
        erased, *answers = await asyncio.gather(
            erase_me(own_client, header), *(use(own_client, mira, tokens) for _ in range(4))
        )
        # A password that was set meanwhile is not the one that was shown.
        if use is get_a_password and erased.status_code in {401, 403}:
            assert (await erase_user(own_client, root, mira.id)).status_code == 204
        else:
            assert erased.status_code == 204, erased.text
        assert all(answer.status_code < 500 for answer in answers), [a.text for a in answers]
        for answer in [*answers, await use(own_client, mira, tokens)]:
            if answer.status_code == 200 and "access_token" in answer.json():
                late = {"Authorization": f"Bearer {answer.json()['access_token']}"}
                assert (await own_client.get("/users/me", headers=late)).status_code == 401
        assert (await use(own_client, mira, tokens)).status_code in {400, 401, 404}
        clock.move(minutes=2)
        await house(own_runtime.sessions, now=clock())
        assert set((await rows_of(own_runtime, mira.id)).values()) == {0}
        async with own_runtime.sessions() as db:
            assert await db.get(User, mira.id) is None
        clock.move(minutes=-2)


async def test_of_two_erasures_of_one_account_one_finds_it(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    root = await bearer(own_client, await make_user(own_runtime, "admin"))
    mira = await make_user(own_runtime)
    answers = await asyncio.gather(*(erase_user(own_client, root, mira.id) for _ in range(5)))
    assert sorted(each.status_code for each in answers) == [204, 404, 404, 404, 404]


async def test_a_name_is_not_taken_in_the_moment_in_which_it_is_erased(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Who waits for the old name's row to go must not get the name then."""
    root = await bearer(own_client, await make_user(own_runtime, "admin"))
    for _ in range(ROUNDS):
        mira = await make_user(own_runtime)
        body = {"username": mira.username, "password": PASSWORD}
        erased, *made = await asyncio.gather(
            erase_user(own_client, root, mira.id),
            *(own_client.post("/users", json=body, headers=root) for _ in range(4)),
        )
        assert erased.status_code == 204
        assert {each.status_code for each in made} == {409}


async def test_what_is_granted_waits_for_an_erasure_that_holds_the_account(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:

    root = await bearer(own_client, await make_user(own_runtime, "admin"))
    mira = await make_user(own_runtime)
    async with own_runtime.work(OPERATOR) as work:
        await erase(work, mira.id)
        path = f"/users/{mira.id}/grants/read:users"
        granting = asyncio.create_task(own_client.put(path, json={}, headers=root))
        await until_waiting(own_runtime, "advisory")
    assert (await granting).status_code == 404
    async with own_runtime.sessions() as db:
        held = select(func.count()).select_from(Grant).where(Grant.user_id == mira.id)
        assert await db.scalar(held) == 0


async def test_who_asks_for_the_name_waits_for_the_erasure_and_does_not_get_it(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    root = await bearer(own_client, await make_user(own_runtime, "admin"))
    mira = await make_user(own_runtime)
    body = {"username": mira.username, "password": PASSWORD}
    async with own_runtime.work(OPERATOR) as work:
        await erase(work, mira.id)
        making = asyncio.create_task(own_client.post("/users", json=body, headers=root))
        await until_waiting(own_runtime, "advisory")
    assert (await making).status_code == 409


async def test_erasing_oneself_waits_for_another_password_and_is_refused_then(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    user = await make_user(own_runtime)
    header = await bearer(own_client, user)
    async with own_runtime.work(OPERATOR) as work:
        await set_password(work, user.id, password_hash="$argon2id$another")
        erasing = asyncio.create_task(erase_me(own_client, header))
        await until_waiting(own_runtime, "advisory")
    assert (await erasing).status_code == 401, "the session ended with the password"
    async with own_runtime.reading() as db:
        assert (await db.get_one(User, user.id)).erased_at is None
