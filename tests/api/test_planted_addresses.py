"""Addresses that managers choose for others, and may read the mail of: no one climbs by them."""

import httpx2
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.accounts import disable
from app.access.grants import grant
from app.access.models import Grant
from app.identity.address_writes import set_unverified_address
from app.identity.models import User
from app.mail.addresses import parse_address
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, make_user, sign_in
from tests.support.letters import delivered, only_mail, token_in

Headers = dict[str, str]

PLANTED = "evil@example.com"
WAYS = ["by an invitation", "with a password", "later"]


@pytest.fixture
async def manager(client: httpx2.AsyncClient, runtime: Runtime) -> Headers:
    """A person who may change accounts, and holds nothing else."""
    return await bearer(client, await make_user(runtime, "write:users", username="manager"))


async def plant(client: httpx2.AsyncClient, runtime: Runtime, by: Headers, way: str) -> str:
    """Have a manager make Carol's account and choose her address; the token of the link."""
    new = {"username": "carol"}
    if way != "by an invitation":
        new["password"] = PASSWORD
    if way != "later":
        new["email"] = PLANTED
    carol = (await client.post("/users", json=new, headers=by)).json()
    if way == "later":
        await client.patch(f"/users/{carol['id']}", json={"email": PLANTED}, headers=by)
    return token_in(await only_mail(runtime))


async def use(client: httpx2.AsyncClient, token: str, way: str) -> int:
    """Confirm the address by that link."""
    path, body = "/email-verification/confirm", {"token": token}
    if way == "by an invitation":
        path, body = "/invitation/accept", {"token": token, "password": PASSWORD}
    return (await client.post(path, json=body)).status_code


async def user_named(db: AsyncSession, username: str) -> User:
    return (await db.scalars(select(User).where(User.username == username))).one()


async def grant_more(runtime: Runtime, clock: MovableClock) -> Someone:
    """Grant Carol what the manager does not hold, a moment after all that was done before."""
    clock.move(seconds=1)
    async with runtime.work(OPERATOR) as work:
        carol = await user_named(work.db, "carol")
        await grant(work, carol.id, "admin")
        # By the clock that the test moves.
        await work.db.execute(update(Grant).values(granted_at=work.now))
    return Someone(carol.id, "carol")


async def ask_for_verification(client: httpx2.AsyncClient) -> None:
    for wish in ({"email": PLANTED}, {"email": PLANTED, "username": "carol"}):
        assert (await client.post("/email-verification", json=wish)).status_code == 202


async def ask_for_reset(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/password-reset", json={"email": PLANTED})).status_code == 202


@pytest.mark.parametrize("way", WAYS)
async def test_an_address_that_waits_is_confirmed_only_while_its_chooser_may_manage_the_account(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock, manager: Headers, way: str
) -> None:
    """Also by a link that a stranger asked for, who must not make that forgotten."""
    first = await plant(client, runtime, manager, way)
    await ask_for_verification(client)
    again = [token_in(each) for each in await delivered(runtime)]
    assert len(again) == 2
    await grant_more(runtime, clock)
    assert await use(client, first, way) == 400
    for token in again:
        assert await use(client, token, "by a stranger's wish") == 400
    await ask_for_verification(client)
    assert await delivered(runtime) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_chosen_address_resets_nothing_once_the_account_holds_more_than_its_chooser(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock, manager: Headers, way: str
) -> None:
    assert await use(client, await plant(client, runtime, manager, way), way) == 204
    await ask_for_reset(client)
    reset = {"token": token_in(await only_mail(runtime)), "password": "the manager's password"}
    carol = await grant_more(runtime, clock)
    answer = await client.post("/password-reset/confirm", json=reset)
    assert answer.status_code == 400, "it was asked for before"
    await ask_for_reset(client)
    assert await delivered(runtime) == []
    # Once she has chosen an address herself, it resets.
    session = await sign_in(client, carol)
    own = {"email": "carols@example.com", "current_password": PASSWORD}
    await client.post("/users/me/email", json=own, headers=session.header)
    assert await use(client, token_in(await only_mail(runtime)), "her own") == 204
    await delivered(runtime)
    await client.post("/password-reset", json={"email": "carols@example.com"})
    assert (await only_mail(runtime)).template == "reset-password"


@pytest.mark.parametrize("way", WAYS)
async def test_an_address_that_an_admin_chose_resets_whatever_its_person_is_granted_later(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock, way: str
) -> None:
    admin = await make_user(runtime, "admin")
    token = await plant(client, runtime, await bearer(client, admin), way)
    assert await use(client, token, way) == 204
    await grant_more(runtime, clock)
    await ask_for_reset(client)
    assert (await only_mail(runtime)).template == "reset-password"
    async with runtime.work(OPERATOR) as work:
        await disable(work, admin.id)
    await ask_for_reset(client)
    assert await delivered(runtime) == [], "they are no admin any more, and may read its mail"


async def test_what_its_owner_held_before_and_what_others_are_granted_stops_no_reset(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    """Nor that the manager who chose it has gone: then they knew as much as the account was."""
    chooser = await make_user(runtime, "write:users", "read:items")
    header = await bearer(client, chooser)
    carol, other = await make_user(runtime, "read:items"), await make_user(runtime)
    clock.move(seconds=5)
    await client.patch(f"/users/{carol.id}", json={"email": PLANTED}, headers=header)
    assert await use(client, token_in(await only_mail(runtime)), "later") == 204
    clock.move(seconds=1)
    async with runtime.work(OPERATOR) as work:
        await grant(work, other.id, "read:audit")
        await disable(work, chooser.id)
    await ask_for_reset(client)
    assert (await only_mail(runtime)).template == "reset-password"


@pytest.mark.parametrize("granted", ["before the change", "after the change", "never"])
async def test_a_chosen_address_undoes_no_change_of_an_account_that_holds_more_than_its_chooser(
    client: httpx2.AsyncClient,
    runtime: Runtime,
    clock: MovableClock,
    manager: Headers,
    granted: str,
) -> None:
    assert await use(client, await plant(client, runtime, manager, "later"), "later") == 204
    if granted == "before the change":
        await grant_more(runtime, clock)
    async with runtime.sessions() as db:
        carol = await user_named(db, "carol")
    session = await sign_in(client, Someone(carol.id, "carol"))
    own = {"email": "carols@example.com", "current_password": PASSWORD}
    await client.post("/users/me/email", json=own, headers=session.header)
    assert await use(client, token_in(await only_mail(runtime)), "her own") == 204
    notice = await only_mail(runtime)
    assert notice.to == PLANTED
    if granted == "before the change":
        assert "link" not in notice.values
        return
    if granted == "after the change":
        await grant_more(runtime, clock)
    answer = await client.post("/email-change/undo", json={"token": token_in(notice)})
    assert answer.status_code == (204 if granted == "never" else 400)
    if granted == "never":
        await delivered(runtime)
        await grant_more(runtime, clock)
        await ask_for_reset(client)
        assert await delivered(runtime) == [], "it is the chosen address again"


async def test_an_address_that_an_operator_chose_is_as_good_as_its_persons_own(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    carol = await make_user(runtime, username="carol")
    async with runtime.work(OPERATOR) as work:
        await set_unverified_address(work, carol.id, parse_address(PLANTED))
    await grant_more(runtime, clock)
    await client.post("/email-verification", json={"email": PLANTED})
    assert await use(client, token_in(await only_mail(runtime)), "later") == 204
    await grant_more(runtime, clock)
    await ask_for_reset(client)
    assert (await only_mail(runtime)).template == "reset-password"
