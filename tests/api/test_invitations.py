"""Inviting people: POST /users without a password, and POST /users/{id}/invitation."""

from datetime import timedelta

import httpx2
import pytest

from app.access.accounts import disable
from app.access.grants import grant
from app.identity.address_writes import set_unverified_address
from app.mail.addresses import parse_address
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user, sign_in
from tests.support.letters import ADDRESS, delivered, make_reachable, only_mail, token_in

Headers = dict[str, str]


async def accept(
    client: httpx2.AsyncClient, token: str, password: str = PASSWORD
) -> httpx2.Response:
    body = {"token": token, "password": password}
    return await client.post("/invitation/accept", json=body)


def token_of(link: str) -> str:
    return link.partition("token=")[2]


async def test_a_person_with_an_address_and_no_password_is_invited(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers
) -> None:
    answer = await client.post("/users", json={"username": "bob", "email": ADDRESS}, headers=root)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert (made["email"], made["email_verified"]) == (ADDRESS, False)
    mail = await only_mail(runtime)
    assert (mail.template, mail.to) == ("invitation", ADDRESS)
    assert mail.values["link"] != made["invitation"]["link"]
    assert (await accept(client, token_in(mail))).status_code == 204
    bob = await bearer(client, Someone(made["id"], "bob"))
    me = (await client.get("/users/me", headers=bob)).json()
    assert (me["email"], me["email_verified"]) == (ADDRESS, True)
    # The other link is void: a password was set.
    assert (await accept(client, token_of(made["invitation"]["link"]))).status_code == 400
    async with runtime.sessions() as db:
        for action in ("invitation.made", "invitation.accepted"):
            assert [str(subject) for _, subject, _ in await told(db, action)] == [made["id"]]


async def test_a_link_that_was_handed_over_confirms_no_address(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    answer = await client.post("/users", json={"username": "bob", "email": ADDRESS}, headers=root)
    made = answer.json()
    assert (await accept(client, token_of(made["invitation"]["link"]))).status_code == 204
    user = (await client.get(f"/users/{made['id']}", headers=root)).json()
    assert (user["email"], user["email_verified"]) == (ADDRESS, False)


async def test_without_an_address_there_is_a_link_and_no_mail(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers
) -> None:
    bob = await make_user(runtime, username="bob")
    session = await sign_in(client, bob)
    answer = await client.post(f"/users/{bob.id}/invitation", headers=root)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert await delivered(runtime) == []
    token = token_of(answer.json()["link"])
    assert (await accept(client, token, "another long password")).status_code == 204
    assert not await session.works()
    assert (await login(client, bob, password="another long password")).status_code == 200


async def test_an_invitation_is_open_for_a_week(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock, root: Headers
) -> None:
    bob = await make_user(runtime, username="bob")
    links = []
    for _ in range(2):
        answer = await client.post(f"/users/{bob.id}/invitation", headers=root)
        links.append(answer.json()["link"])
    assert (await accept(client, token_of(links[0]))).status_code == 400
    clock.move(days=7, seconds=1)
    assert (await accept(client, token_of(links[1]))).status_code == 400


@pytest.mark.parametrize("days", [None, 1])
async def test_an_invitation_of_a_person_who_holds_as_much_as_its_maker_counts(
    client: httpx2.AsyncClient, runtime: Runtime, days: int | None
) -> None:
    end = runtime.now() + timedelta(days=days) if days else None
    manager = await make_user(runtime, "write:users", "read:items", expires_at=end)
    bob = await make_user(runtime, "read:items", username="bob", expires_at=end)
    header = await bearer(client, manager)
    answer = await client.post(f"/users/{bob.id}/invitation", headers=header)
    assert (await accept(client, token_of(answer.json()["link"]))).status_code == 204


async def test_no_one_invites_a_person_who_holds_more(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    manager = await bearer(client, await make_user(runtime, "write:users", username="manager"))
    bob = await make_user(runtime, username="bob")
    assert (await client.post(f"/users/{bob.id}/invitation", headers=manager)).status_code == 201
    async with runtime.work(OPERATOR) as work:
        await grant(work, bob.id, "read:audit")
    refused = await client.post(f"/users/{bob.id}/invitation", headers=manager)
    assert refused.status_code == 403
    changed = await client.patch(
        f"/users/{bob.id}", json={"email": "mine@example.com"}, headers=manager
    )
    assert changed.status_code == 403


@pytest.mark.parametrize("given", [{"email": ADDRESS}, {"password": PASSWORD}])
async def test_a_service_has_neither_a_password_nor_an_address(
    client: httpx2.AsyncClient, root: Headers, given: dict[str, str]
) -> None:
    new = {"username": "bot", "kind": "service", **given}
    assert (await client.post("/users", json=new, headers=root)).status_code == 422


async def test_a_person_without_an_address_is_invited_by_the_link_alone(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers
) -> None:
    made = (await client.post("/users", json={"username": "bob"}, headers=root)).json()
    assert await delivered(runtime) == []
    token = token_of(made["invitation"]["link"])
    assert (await accept(client, token)).status_code == 204
    assert (await login(client, Someone(made["id"], "bob"))).status_code == 200


async def test_a_service_account_is_not_invited(client: httpx2.AsyncClient, root: Headers) -> None:
    made = await client.post("/users", json={"username": "bot", "kind": "service"}, headers=root)
    user_id = made.json()["id"]
    assert (await client.post(f"/users/{user_id}/invitation", headers=root)).status_code == 422
    changed = await client.patch(f"/users/{user_id}", json={"email": ADDRESS}, headers=root)
    assert changed.status_code == 422


async def test_an_administrator_changes_an_address_which_has_to_be_confirmed(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers
) -> None:
    bob = await make_reachable(runtime, email="old@example.com", username="bob")
    answer = await client.patch(f"/users/{bob.id}", json={"email": ADDRESS}, headers=root)
    assert (answer.json()["email"], answer.json()["email_verified"]) == ("old@example.com", True)
    assert (await login(client, Someone(bob.id, ADDRESS))).status_code == 400
    mail = await only_mail(runtime)
    assert (mail.template, mail.to) == ("confirm-address", ADDRESS)
    confirm = {"token": token_in(mail)}
    assert (await client.post("/email-verification/confirm", json=confirm)).status_code == 204
    assert (await login(client, Someone(bob.id, ADDRESS))).status_code == 200
    assert (await login(client, Someone(bob.id, "old@example.com"))).status_code == 400
    told_ = await only_mail(runtime)
    assert (told_.template, told_.to) == ("address-replaced", "old@example.com")
    answer = await client.patch(f"/users/{bob.id}", json={"email": None}, headers=root)
    assert "email" in answer.json()
    assert answer.json()["email"] is None
    async with runtime.sessions() as db:
        # The link by its reader, the removal by the administrator.
        assert [subject for _, subject, _ in await told(db, "email.changed")] == [bob.id] * 2
    unchanged = await client.patch(f"/users/{bob.id}", json={"disabled": False}, headers=root)
    assert unchanged.status_code == 200


async def test_a_new_person_with_a_password_and_an_address_confirms_it(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers
) -> None:
    new = {"username": "bob", "password": PASSWORD, "email": ADDRESS}
    answer = await client.post("/users", json=new, headers=root)
    assert "invitation" not in answer.json()
    assert (await only_mail(runtime)).template == "verify-email"


async def test_an_invited_person_can_do_nothing_before(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    made = await client.post("/users", json={"username": "bob", "email": ADDRESS}, headers=root)
    bob = Someone(made.json()["id"], "bob")
    for password in ("", PASSWORD):
        assert (await login(client, bob, password=password)).status_code == 400


async def manager_of(client: httpx2.AsyncClient, runtime: Runtime) -> tuple[Someone, Headers]:
    manager = await make_user(runtime, "write:users", username="manager")
    return manager, await bearer(client, manager)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"email": ADDRESS}),
        ("POST", "/password", {"password": "another long password"}),
        ("POST", "/invitation", None),
    ],
)
async def test_a_token_alone_does_not_take_over_its_own_account(
    client: httpx2.AsyncClient, runtime: Runtime, method: str, path: str, body: dict[str, str]
) -> None:
    manager, header = await manager_of(client, runtime)
    url = f"/users/{manager.id}{path}"
    answer = await client.request(method, url, json=body, headers=header)
    assert answer.status_code == 403
    assert "with your password" in answer.json()["detail"]
    assert (await login(client, manager)).status_code == 200


@pytest.mark.parametrize("change", ["bob is granted more", "the manager is disabled"])
async def test_an_invitation_counts_only_while_its_maker_may_manage_the_account(
    client: httpx2.AsyncClient, runtime: Runtime, change: str
) -> None:
    manager, header = await manager_of(client, runtime)
    bob = await make_user(runtime, username="bob")
    async with runtime.work(OPERATOR) as work:
        await set_unverified_address(work, bob.id, parse_address(ADDRESS))
    answer = await client.post(f"/users/{bob.id}/invitation", headers=header)
    handed_over, mailed = token_of(answer.json()["link"]), token_in(await only_mail(runtime))
    async with runtime.work(OPERATOR) as work:
        if change == "bob is granted more":
            await grant(work, bob.id, "admin")
        else:
            await disable(work, manager.id)
    for token in (handed_over, mailed):
        assert (await accept(client, token, "the manager's password")).status_code == 400
    assert (await login(client, bob)).status_code == 200
