"""The last admin: somebody always holds admin and can sign in, whoever acts at once."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import Executable, delete, func, select, update

from app.access import accounts
from app.access.authority import (
    LastAdmin,
    has_lasting_admin,
    keep_an_admin,
)
from app.access.grants import grant, revoke
from app.access.models import Grant
from app.identity.account_writes import create_service, disable_user, make_secret
from app.identity.models import ClientSecret, User
from app.runtime import Runtime
from tests.conftest import settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, Someone, bearer, make_user
from tests.support.locks import until_waiting

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


@pytest.mark.long
@pytest.mark.parametrize("other", ATTEMPTS)
@pytest.mark.parametrize("one", ATTEMPTS)
async def test_of_two_admins_who_put_each_other_out_at_once_one_stays(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, one: Attempt, other: Attempt
) -> None:
    for _ in range(5):
        async with own_runtime.work(OPERATOR) as work:
            await work.db.execute(delete(User))
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
    async with runtime.sessions() as db:
        return await db.scalar(holders) or 0


async def has_admin(runtime: Runtime) -> bool:
    async with runtime.sessions() as db:
        return await has_lasting_admin(db, now=runtime.now())


async def test_the_last_admin_stays_unless_an_operator_insists(runtime: Runtime) -> None:
    root, soon = await make_user(runtime, "admin"), runtime.now() + timedelta(hours=1)
    await make_user(runtime, "admin", expires_at=soon)
    async with runtime.work(OPERATOR) as work:
        with pytest.raises(LastAdmin):
            await revoke(work, root.id, "admin")
        with pytest.raises(LastAdmin):
            await grant(work, root.id, "admin", expires_at=soon)
        with pytest.raises(LastAdmin):
            await accounts.disable(work, root.id)
    assert await lasting_admins(runtime) == 1
    async with runtime.work(OPERATOR) as work:
        await grant(work, root.id, "admin", expires_at=soon, force=True)
        await revoke(work, root.id, "admin", force=True)
        await accounts.disable(work, root.id, force=True)
    assert await lasting_admins(runtime) == 0


async def test_the_last_admin_may_be_a_service_account_whose_only_secret_then_stays(
    runtime: Runtime,
) -> None:
    async with runtime.work(OPERATOR) as work:
        robot, secret = await create_service(work, username="robot")
    assert not await has_admin(runtime)
    async with runtime.work(OPERATOR) as work:
        await grant(work, robot.id, "admin")
    assert await has_admin(runtime)
    async with runtime.work(OPERATOR) as work:
        with pytest.raises(LastAdmin):
            await revoke(work, robot.id, "admin")
        with pytest.raises(LastAdmin):
            await accounts.revoke_secret(work, robot.id, secret.id)


async def test_without_the_password_grant_a_person_is_still_an_admin(
    own_database_url: str,
) -> None:
    """They sign in at the page."""
    settings = settings_for(own_database_url, password_grant=False)
    async with Runtime.open(settings) as runtime:
        root = await make_user(runtime, "admin")
        assert await has_admin(runtime)
        async with runtime.work(OPERATOR) as work:
            with pytest.raises(LastAdmin):
                await revoke(work, root.id, "admin")


async def test_who_would_leave_admin_to_somebody_waits_until_it_is_sure_that_they_stay(
    own_runtime: Runtime,
) -> None:
    one, other = [await make_user(own_runtime, "admin") for _ in range(2)]

    async def leave() -> None:
        async with own_runtime.work(OPERATOR) as work:
            await accounts.disable(work, other.id)

    async with own_runtime.work(OPERATOR) as work:
        await keep_an_admin(work, one.id)
        await disable_user(work, one.id)
        leaving = asyncio.create_task(leave())
        done, _ = await asyncio.wait({leaving}, timeout=0.2)
        assert not done
    with pytest.raises(LastAdmin):
        await leaving


async def test_whether_somebody_holds_admin_without_end_is_told(
    runtime: Runtime, clock: MovableClock
) -> None:
    assert not await has_admin(runtime)
    await make_user(runtime, "write:users")
    await make_user(runtime, "admin", expires_at=clock() + timedelta(hours=1))
    assert not await has_admin(runtime)
    root = await make_user(runtime, "admin")
    assert await has_admin(runtime)
    async with runtime.work(OPERATOR) as work:
        await disable_user(work, root.id)
    assert not await has_admin(runtime)


async def test_an_admin_whose_time_is_over_is_none(runtime: Runtime, clock: MovableClock) -> None:
    soon = clock() + timedelta(hours=1)
    one = await make_user(runtime, "admin", expires_at=soon)
    async with runtime.work(OPERATOR) as work:
        with pytest.raises(LastAdmin):
            await keep_an_admin(replace(work, now=soon - timedelta(microseconds=1)), one.id)
        await keep_an_admin(replace(work, now=soon), one.id)


async def test_a_disabled_admin_is_none(runtime: Runtime) -> None:
    one, other = [await make_user(runtime, "admin") for _ in range(2)]
    async with runtime.work(OPERATOR) as work:
        await accounts.disable(work, one.id)
        with pytest.raises(LastAdmin):
            await accounts.disable(work, other.id)
        await accounts.disable(work, one.id)


async def admin_service(runtime: Runtime, name: str) -> tuple[Someone, uuid.UUID]:
    """A service account that holds `admin`, and the id of its only secret."""
    async with runtime.work(OPERATOR) as work:
        user, secret = await create_service(work, username=name)
        await grant(work, user.id, "admin")
    return Someone(user.id, name), secret.id


async def revoke_secret_by_api(
    client: httpx2.AsyncClient, token: dict[str, str], user_id: uuid.UUID, secret_id: uuid.UUID
) -> int:
    path = f"/users/{user_id}/secrets/{secret_id}"
    return (await client.delete(path, headers=token)).status_code


async def test_the_only_secret_of_the_last_admin_stays_unless_an_operator_insists(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    soon = runtime.now() + timedelta(hours=1)
    on_call = await bearer(client, await make_user(runtime, "admin", expires_at=soon))
    robot, first = await admin_service(runtime, "robot")
    assert await revoke_secret_by_api(client, on_call, robot.id, first) == 409
    assert await revoke_secret_by_api(client, on_call, robot.id, uuid.uuid4()) == 404
    made = await client.post(f"/users/{robot.id}/secrets", headers=on_call)
    assert made.status_code == 403, "nobody on call gets into it either"
    async with runtime.work(OPERATOR) as work:
        second = await make_secret(work, robot.id)
    assert await revoke_secret_by_api(client, on_call, robot.id, first) == 204, "one is left"
    assert await revoke_secret_by_api(client, on_call, robot.id, second.id) == 409
    async with runtime.work(OPERATOR) as work:
        await accounts.revoke_secret(work, robot.id, second.id, force=True)
    assert not await has_admin(runtime)


async def test_any_secret_goes_while_another_admin_can_sign_in(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    root = await bearer(client, await make_user(runtime, "admin"))
    robot, secret = await admin_service(runtime, "robot")
    assert await revoke_secret_by_api(client, root, robot.id, secret) == 204


@pytest.mark.parametrize("kind", ["person", "service"])
async def test_an_admin_who_cant_sign_in_doesnt_count_and_blocks_nothing(
    runtime: Runtime, kind: str
) -> None:
    if kind == "person":
        powerless = await make_user(runtime, "admin")
        without: Executable = update(User).values(password_hash=None)
    else:
        powerless, secret_id = await admin_service(runtime, "robot")
        without = delete(ClientSecret).where(ClientSecret.id == secret_id)
    assert await has_admin(runtime)
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(without)
    assert not await has_admin(runtime)
    root = await make_user(runtime, "admin")
    async with runtime.work(OPERATOR) as work:
        with pytest.raises(LastAdmin):
            await revoke(work, root.id, "admin")
        with pytest.raises(LastAdmin):
            await accounts.disable(work, root.id)
        with pytest.raises(LastAdmin):
            await grant(work, root.id, "admin", expires_at=work.now + timedelta(hours=1))
        assert await revoke(work, powerless.id, "admin")
        await accounts.disable(work, powerless.id)


async def test_of_two_who_take_each_others_only_secret_at_once_one_keeps_it(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    soon = own_runtime.now() + timedelta(hours=1)
    on_call = [
        await bearer(own_client, await make_user(own_runtime, "admin", expires_at=soon))
        for _ in range(2)
    ]
    for round_ in range(5):
        async with own_runtime.work(OPERATOR) as work:
            await work.db.execute(delete(User).where(User.kind == "service"))
        robots = [await admin_service(own_runtime, f"robot-{round_}-{n}") for n in range(2)]
        statuses = await asyncio.gather(
            *(
                revoke_secret_by_api(own_client, token, robot.id, secret)
                for token, (robot, secret) in zip(on_call, robots, strict=True)
            )
        )
        assert sorted(statuses) == [204, 409]
        assert await has_admin(own_runtime)


@pytest.mark.parametrize("first", ["grant", "secret"])
async def test_a_secret_and_a_grant_taken_at_once_leave_an_admin_who_can_sign_in(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, first: str
) -> None:
    soon = own_runtime.now() + timedelta(hours=1)
    on_call = [
        await bearer(own_client, await make_user(own_runtime, "admin", expires_at=soon))
        for _ in range(2)
    ]
    root = await make_user(own_runtime, "admin")
    robot, secret = await admin_service(own_runtime, "robot")
    taking = [
        revoke_by_api(own_client, on_call[0], root.id),
        revoke_secret_by_api(own_client, on_call[1], robot.id, secret),
    ]
    if first == "secret":
        taking.reverse()
    async with own_runtime.work(OPERATOR) as work:
        await keep_an_admin(work, uuid.uuid4())
        one = asyncio.create_task(taking[0])
        await until_waiting(own_runtime, "advisory")
        other = asyncio.create_task(taking[1])
    assert [await one, await other] == [204, 409]
