"""Addresses that managers choose for others, and may read the mail of: no one climbs by them."""

from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import update

from app.access.grants import grant
from app.access.models import Grant
from app.identity.address_writes import set_unverified_address
from app.mail.addresses import parse_address
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user, sign_in
from tests.support.letters import ADDRESS, delivered, make_reachable, only_mail, token_in

PLANTED = "evil@example.com"


async def managers_header(client: httpx2.AsyncClient, runtime: Runtime) -> dict[str, str]:
    """The token of a person who may change accounts, and holds nothing else."""
    return await bearer(client, await make_user(runtime, "write:users", username="manager"))


async def plant(
    client: httpx2.AsyncClient, runtime: Runtime, user: Someone, header: dict[str, str]
) -> None:
    """Have a manager choose the address and confirm it."""
    await client.patch(f"/users/{user.id}", json={"email": PLANTED}, headers=header)
    confirm = {"token": token_in(await only_mail(runtime))}
    assert (await client.post("/email-verification/confirm", json=confirm)).status_code == 204


async def test_an_address_that_a_manager_planted_resets_nothing_of_who_was_granted_more(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    header = await managers_header(client, runtime)
    carol = await make_reachable(runtime, email="carol@example.com", username="carol")
    await client.patch(f"/users/{carol.id}", json={"email": PLANTED}, headers=header)
    planted = await only_mail(runtime)
    confirm = {"token": token_in(planted)}
    assert (await client.post("/email-verification/confirm", json=confirm)).status_code == 204
    assert [each.to for each in await delivered(runtime)] == ["carol@example.com"]
    async with runtime.work(OPERATOR) as work:
        await grant(work, carol.id, "read:audit")
        await work.db.execute(update(Grant).values(granted_at=work.now + timedelta(seconds=1)))
    await client.post("/password-reset", json={"email": PLANTED})
    assert await delivered(runtime) == []
    # Once she has chosen an address herself, it resets.
    session = await sign_in(client, carol)
    own = {"email": "carols@example.com", "current_password": PASSWORD}
    await client.post("/users/me/email", json=own, headers=session.header)
    confirm = {"token": token_in(await only_mail(runtime))}
    assert (await client.post("/email-verification/confirm", json=confirm)).status_code == 204
    await delivered(runtime)
    await client.post("/password-reset", json={"email": "carols@example.com"})
    assert [each.template for each in await delivered(runtime)] == ["reset-password"]


async def test_a_reset_that_was_asked_for_before_its_owner_was_granted_more_is_void(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    header = await managers_header(client, runtime)
    carol = await make_user(runtime, username="carol")
    await plant(client, runtime, carol, header)
    await client.post("/password-reset", json={"email": PLANTED})
    reset = {"token": token_in(await only_mail(runtime)), "password": "the manager's password"}
    async with runtime.work(OPERATOR) as work:
        await grant(work, carol.id, "admin")
        await work.db.execute(update(Grant).values(granted_at=work.now + timedelta(seconds=1)))
    assert (await client.post("/password-reset/confirm", json=reset)).status_code == 400
    assert (await login(client, carol)).status_code == 200


@pytest.mark.parametrize("made", ["by an invitation", "with a password", "without an address"])
async def test_only_the_managers_own_link_confirms_an_address_that_a_manager_chose(
    client: httpx2.AsyncClient, runtime: Runtime, made: str
) -> None:
    """A stranger's wish would bring a link that counts whatever the account holds by then."""
    header = await managers_header(client, runtime)
    new: dict[str, str] = {"username": "carol"}
    if made != "by an invitation":
        new["password"] = PASSWORD
    if made != "without an address":
        new["email"] = PLANTED
    carol = (await client.post("/users", json=new, headers=header)).json()
    if made == "without an address":
        change = {"email": PLANTED}
        await client.patch(f"/users/{carol['id']}", json=change, headers=header)
    assert len(await delivered(runtime)) == 1
    for wish in ({}, {"username": "carol"}):
        wish["email"] = PLANTED
        assert (await client.post("/email-verification", json=wish)).status_code == 202
    assert await delivered(runtime) == []


async def test_an_address_that_an_operator_chose_may_be_confirmed_by_a_new_link(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    bob = await make_user(runtime, username="bob")
    async with runtime.work(OPERATOR) as work:
        await set_unverified_address(work, bob.id, parse_address(ADDRESS))
    await client.post("/email-verification", json={"email": ADDRESS})
    assert (await only_mail(runtime)).user_id == bob.id


async def test_a_planted_address_is_not_confirmed_after_its_owner_was_granted_more(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    header = await managers_header(client, runtime)
    carol = await make_user(runtime, username="carol")
    await client.patch(f"/users/{carol.id}", json={"email": PLANTED}, headers=header)
    confirm = {"token": token_in(await only_mail(runtime))}
    async with runtime.work(OPERATOR) as work:
        await grant(work, carol.id, "read:audit")
    assert (await client.post("/email-verification/confirm", json=confirm)).status_code == 400


async def test_what_its_owner_held_before_and_what_others_are_granted_stops_no_reset(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    root = await bearer(client, await make_user(runtime, "admin"))
    carol, other = await make_user(runtime, "read:items"), await make_user(runtime)
    clock.move(seconds=1)
    await plant(client, runtime, carol, root)
    clock.move(seconds=1)
    async with runtime.work(OPERATOR) as work:
        await grant(work, other.id, "read:audit")
    await client.post("/password-reset", json={"email": PLANTED})
    assert (await only_mail(runtime)).template == "reset-password"
