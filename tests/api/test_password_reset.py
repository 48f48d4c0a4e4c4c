"""POST /password-reset and what its link does."""

import asyncio

import httpx2
import pytest

from app.access.accounts import disable
from app.identity.address_writes import set_verified_address
from app.identity.names import username_key
from app.mail.addresses import parse_address
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.factories import OPERATOR, PASSWORD, Someone, login, make_user, sign_in
from tests.support.letters import ADDRESS, delivered, make_reachable, only_mail, token_in

NEW = "another long password"


async def ask(client: httpx2.AsyncClient, email: str = ADDRESS) -> httpx2.Response:
    return await client.post("/password-reset", json={"email": email})


async def reset(client: httpx2.AsyncClient, token: str, password: str = NEW) -> httpx2.Response:
    body = {"token": token, "password": password}
    return await client.post("/password-reset/confirm", json=body)


async def test_a_reset_sets_the_password_and_ends_all_sessions_and_signs_no_one_in(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    alice = await make_reachable(runtime, "read:items")
    session = await sign_in(client, alice)
    assert (await ask(client)).status_code == 202
    mail = await only_mail(runtime)
    assert (mail.template, mail.to) == ("reset-password", ADDRESS)
    assert await session.works()
    answer = await reset(client, token_in(mail))
    assert (answer.status_code, answer.content) == (204, b"")
    assert "set-cookie" not in answer.headers
    assert not await session.works()
    assert await session.refresh() == 400
    assert (await login(client, alice)).status_code == 400
    assert (await login(client, alice, password=NEW)).status_code == 200
    async with runtime.sessions() as db:
        assert [subject for _, subject, _ in await told(db, "password.reset_requested")] == [
            alice.id
        ]
        assert [subject for _, subject, _ in await told(db, "password.reset")] == [alice.id]


async def test_a_link_is_used_once(client: httpx2.AsyncClient, runtime: Runtime) -> None:
    await make_reachable(runtime)
    await ask(client)
    token = token_in(await only_mail(runtime))
    # A password that does not fit uses nothing up.
    assert (await reset(client, token, "short")).status_code == 422
    assert (await reset(client, token)).status_code == 204
    assert (await reset(client, token)).status_code == 400


async def test_known_and_unknown_addresses_are_answered_alike(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await make_reachable(runtime)
    known, unknown = await ask(client), await ask(client, "stranger@example.com")
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert set(known.headers) == set(unknown.headers)
    assert [each.to for each in await delivered(runtime)] == [ADDRESS]


async def test_the_mail_goes_to_the_address_as_it_is_kept(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """A KELVIN SIGN counts as a k: the mail must not go to another mailbox that is spelled so."""
    await make_reachable(runtime, email="kim@example.com")
    await ask(client, "\N{KELVIN SIGN}IM@example.com")
    assert [each.to for each in await delivered(runtime)] == ["kim@example.com"]


@pytest.mark.parametrize("change", ["password", "admin's password", "address", "disabled", "newer"])
async def test_a_link_is_void_when_what_it_rests_on_changes(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str], change: str
) -> None:
    alice = await make_reachable(runtime)
    await ask(client)
    token = token_in(await only_mail(runtime))
    if change == "password":
        body = {"current_password": PASSWORD, "new_password": "one more long password"}
        header = (await sign_in(client, alice)).header
        assert (
            await client.post("/users/me/password", json=body, headers=header)
        ).status_code == 204
    elif change == "admin's password":
        body = {"password": "one more long password"}
        answer = await client.post(f"/users/{alice.id}/password", json=body, headers=root)
        assert answer.status_code == 204
    elif change == "address":
        async with runtime.work(OPERATOR) as work:
            await set_verified_address(
                work, alice.id, parse_address("new@example.com"), chosen_by=None
            )
    elif change == "disabled":
        async with runtime.work(OPERATOR) as work:
            await disable(work, alice.id)
    else:
        await ask(client)
        await delivered(runtime)
    assert (await reset(client, token)).status_code == 400


async def test_a_disabled_account_gets_no_link(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    alice = await make_reachable(runtime)
    async with runtime.work(OPERATOR) as work:
        await disable(work, alice.id)
    assert (await ask(client)).status_code == 202
    assert await delivered(runtime) == []


async def test_a_link_for_another_purpose_resets_nothing(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str]
) -> None:
    alice = await make_reachable(runtime)
    invited = await client.post(f"/users/{alice.id}/invitation", headers=root)
    token = invited.json()["link"].partition("token=")[2]
    assert (await reset(client, token)).status_code == 400
    confirmed = await client.post("/email-verification/confirm", json={"token": token})
    assert confirmed.status_code == 400


async def test_of_many_at_once_one_succeeds(own_runtime: Runtime) -> None:
    alice = await make_reachable(own_runtime)
    async with client_of(own_runtime) as client:
        for _ in range(3):
            await ask(client)
            token = token_in((await delivered(own_runtime))[-1])
            tries = [f"long password number {number}" for number in range(8)]
            answers = await asyncio.gather(*(reset(client, token, each) for each in tries))
            won = [t for t, each in zip(tries, answers, strict=True) if each.status_code == 204]
            assert sorted(each.status_code for each in answers) == [204, *[400] * 7]
            assert (await login(client, alice, password=won[0])).status_code == 200


async def test_links_lead_below_the_issuer_whatever_the_host_header_says(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await make_reachable(runtime)
    await client.post(
        "/password-reset",
        json={"email": ADDRESS},
        headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
    )
    mail = await only_mail(runtime)
    assert mail.values["link"].startswith(f"{runtime.settings.token_issuer}/reset-password?token=")


async def test_a_person_signs_in_with_a_verified_address_too(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    alice = await make_reachable(runtime, username="Alice")
    for name in (ADDRESS, "ALICE@EXAMPLE.COM", " alice@example.com "):
        answer = await login(client, Someone(alice.id, name))
        assert answer.status_code == 200, name
    assert (await login(client, Someone(alice.id, ADDRESS), password="wrong")).status_code == 400


async def test_a_name_that_is_anothers_address_is_taken(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str]
) -> None:
    await make_reachable(runtime)
    assert username_key(ADDRESS) == ADDRESS
    made = await client.post(
        "/users", json={"username": "Alice@example.com", "password": PASSWORD}, headers=root
    )
    assert made.status_code == 409
    bob = await make_user(runtime, username="bob")
    renamed = await client.patch(f"/users/{bob.id}", json={"username": ADDRESS}, headers=root)
    assert renamed.status_code == 409


async def test_failures_count_for_an_address_however_it_is_spelled(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """Characters that a domain drops, and dots of other scripts, find the same account."""
    alice = await make_reachable(runtime)
    spellings = [f"alice@ex{chr(0xFE00 + number)}ample.com" for number in range(8)]
    spellings += ["alice@example\u3002com", "ALICE@example.com"]
    for name in spellings:
        assert (await login(client, Someone(alice.id, name), password="x")).status_code == 400
    for name in (ADDRESS, "alice@e\u034fxample.com"):
        assert (await login(client, Someone(alice.id, name))).status_code == 429
