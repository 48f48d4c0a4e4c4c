"""Authority at its edges: the last admin, and two who act at once."""

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
    OPERATOR,
    BeyondAuthority,
    Caller,
    LastAdmin,
    confirm_caller,
    has_lasting_admin,
    keep_an_admin,
    managed_user,
)
from app.access.grants import grant, revoke
from app.access.holdings import granted_scopes
from app.access.models import Grant
from app.db.work import Actor
from app.errors import InvalidToken
from app.identity.account_writes import create_service, disable_user, make_secret
from app.identity.login import LoginRefused, change_password, confirm_login
from app.identity.models import ClientSecret, User
from app.identity.session_writes import end_session, end_sessions_of
from app.identity.users import user_of_id
from app.runtime import Runtime
from tests.clock import MovableClock
from tests.conftest import settings_for
from tests.factories import PASSWORD, Someone, bearer, caller_of, login, make_user, signed_in
from tests.holding import hashing_held, until_waiting

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
        return await has_lasting_admin(
            db, password_grant=runtime.settings.password_grant, now=runtime.now()
        )


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


async def test_without_the_password_grant_a_person_is_no_admin_who_can_help(
    own_database_url: str,
) -> None:
    """They can't sign in, so the only secret of a service account with admin stays."""
    settings = settings_for(own_database_url, password_grant=False)
    async with Runtime.open(settings) as runtime:
        await make_user(runtime, "admin")
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


async def test_who_would_leave_admin_to_somebody_waits_until_it_is_sure_that_they_stay(
    own_runtime: Runtime,
) -> None:
    one, other = [await make_user(own_runtime, "admin") for _ in range(2)]
    caller = await signed_in(own_runtime, other)
    async with own_runtime.work(OPERATOR) as work:
        await keep_an_admin(work, one.id)
        await disable_user(work, one.id)
        leaving = asyncio.create_task(disable(own_runtime, caller))
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
        assert await granted_scopes(work.db, user.id, now=work.now) == set()


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


async def test_logins_do_not_overtake_whoever_disables_the_account(own_runtime: Runtime) -> None:
    """Or else an account that keeps signing in could not be disabled."""
    user = await make_user(own_runtime)

    async def sign_in() -> None:
        async with own_runtime.work(Actor()) as work:
            await confirm_login(work.db, await user_of_id(work.db, user.id))

    async with own_runtime.work(Actor()) as work:
        await confirm_login(work.db, await user_of_id(work.db, user.id))
        disabling = asyncio.create_task(disable(own_runtime, Caller(user_id=user.id)))
        await asyncio.wait({disabling}, timeout=0.2)
        signing_in = asyncio.create_task(sign_in())
        done, _ = await asyncio.wait({disabling, signing_in}, timeout=0.2)
        assert not done, "one waits for the login before, the other for the disabling"
    await disabling
    with pytest.raises(LoginRefused):
        await signing_in


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


async def test_a_request_of_no_session_has_no_authority(runtime: Runtime) -> None:
    root = await make_user(runtime, "admin")
    caller = Caller(user_id=root.id)
    async with runtime.work(caller) as work:
        with pytest.raises(InvalidToken):
            await confirm_caller(work)
