"""What an application that a person has let in can't reach, whichever way it tries."""

import httpx2

from app.access.client_registry import change_client, delete_client
from app.runtime import Runtime
from tests.support.browsing import Application, PersonsBrowser, register
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user

EVIL = "https://evil.example/callback"


async def test_a_registered_client_signs_people_in_by_codes_alone(
    runtime: Runtime, alice: Someone, browser: PersonsBrowser
) -> None:
    """By a password no person agrees to anything, so no ceiling and no consent would count."""
    portal = await register(runtime, "portal", confidential=True, scopes=["read:items"])
    form = {"grant_type": "password", "username": alice.username, "password": PASSWORD}
    secret = {"client_id": portal.client_id, "client_secret": portal.secret or ""}
    answer = await browser.client.post("/token", data={**form, **secret})
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, "portal")
    answer = await browser.client.post("/token", data={**form, **secret})
    assert answer.status_code == 401


async def test_only_who_holds_the_ceiling_decides_about_the_account_of_a_client(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    """With a secret of it, one could redeem its codes."""
    helper = await bearer(client, await make_user(runtime, "read:users", "write:users"))
    await register(runtime, "portal", confidential=True)
    users = (await client.get("/users?kind=service", headers=helper)).json()["items"]
    (account,) = [each["id"] for each in users if each["username"] == "portal"]
    assert (await client.post(f"/users/{account}/secrets", headers=helper)).status_code == 403
    (secret,) = (await client.get(f"/users/{account}/secrets", headers=helper)).json()["items"]
    path = f"/users/{account}/secrets/{secret['secret_id']}"
    assert (await client.delete(path, headers=helper)).status_code == 403
    off = await client.patch(f"/users/{account}", json={"disabled": True}, headers=helper)
    assert off.status_code == 403


async def test_a_third_party_changes_its_persons_account_by_no_way(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    """Neither under /users/me nor by their id, though it may manage users."""
    person = await make_user(runtime, "write:users")
    app = await register(runtime)
    await browser.sign_in(person)
    tokens = await browser.let_in(app, scope="write:users")
    user, header = f"/users/{person.id}", tokens.header
    own = {"current_password": PASSWORD, "new_password": "another-long-password"}
    for method, path, body in (
        ("POST", f"{user}/password", {"password": "another-long-password"}),
        ("PATCH", user, {"username": "mallory"}),
        ("DELETE", f"{user}/sessions", None),
        ("POST", "/users/me/password", own),
    ):
        answer = await browser.client.request(method, path, json=body, headers=header)
        assert answer.status_code == 403, (method, path)
    assert (await login(browser.client, person)).status_code == 200


async def test_a_page_gives_no_code_to_an_address_that_it_did_not_show(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    page = await signed_in.authorize(app, redirect_uri=None)
    async with runtime.work(OPERATOR) as work:
        await change_client(work, app.client_id, {"redirect_uris": [EVIL]})
    assert (await signed_in.decide(page)).status_code == 403


async def test_a_page_gives_no_code_to_a_later_client_of_the_same_id(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    page = await signed_in.authorize(app)
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, app.client_id)
    await register(runtime, app.client_id)
    assert (await signed_in.decide(page)).status_code == 403


async def test_what_was_implied_by_trust_ends_with_it_and_one_answer_is_enough_then(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    app = await register(runtime, "trusted", trusted=True)
    await signed_in.let_in(app, scope="read:items write:items")
    async with runtime.work(OPERATOR) as work:
        await change_client(work, "trusted", {"trusted": False})
    tokens = await signed_in.let_in(app, scope="read:items")
    assert tokens.tokens["scope"] == "read:items"
    answer = await signed_in.authorize(app, scope="read:items write:items")
    assert answer.status_code == 200, "the rest was never asked for"


async def test_a_page_for_a_recent_sign_in_is_not_answered_late(
    signed_in: PersonsBrowser, app: Application, clock: MovableClock
) -> None:
    page = await signed_in.authorize(app, max_age="30")
    clock.move(seconds=31)
    answer = await signed_in.decide(page)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("sign-in?")
