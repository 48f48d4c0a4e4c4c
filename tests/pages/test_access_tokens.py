"""The pages on which people make, see and revoke their access tokens."""

import re
from datetime import timedelta
from typing import Any

import httpx2

from app.access.grants import grant, revoke
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.browsing import Form, PersonsBrowser, form_with
from tests.support.factories import OPERATOR, PASSWORD, SignedIn, Someone, make_user, sign_in
from tests.support.personal_tokens import TOKENS, personal_token

TOKEN = re.compile(r"sgp_[0-9A-Za-z]{33}")


def in_days(runtime: Runtime, days: float) -> str:
    """That day, as the form has it."""
    return (runtime.now() + timedelta(days=days)).date().isoformat()


async def make(
    browser: PersonsBrowser, runtime: Runtime, *scopes: str, **changes: str
) -> httpx2.Response:
    """What the form answers."""
    page = await browser.client.get("/new-token")
    fields = form_with(page.text, "Make token").fields
    data = {
        **fields,
        "name": "backup",
        "ends": in_days(runtime, 30),
        "password": PASSWORD,
        "scope": list(scopes),
        **changes,
    }
    return await browser.client.post("/new-token", data=data)


def shown(client: httpx2.AsyncClient, page: httpx2.Response) -> SignedIn:
    """The token on the page."""
    (value,) = TOKEN.findall(page.text)
    return SignedIn(client, {"access_token": value})


async def names(browser: PersonsBrowser) -> list[str]:
    """The tokens on the account page, from the top."""
    page = await browser.client.get("/account")
    return re.findall(r'aria-label="Revoke ([^"]+)"', page.text)


async def test_a_person_makes_a_token_sees_it_once_and_revokes_it(
    runtime: Runtime, signed_in: PersonsBrowser, client: httpx2.AsyncClient
) -> None:
    page = await make(signed_in, runtime, "read:items")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text
    token = shown(client, page)
    assert await token.status("/items") == 200
    account = (await signed_in.client.get("/account")).text
    assert "never used" in account
    assert not TOKEN.search(account)
    assert await names(signed_in) == ["backup"]
    answer = await signed_in.press("/account", "Revoke backup")
    assert "The access token is revoked." in (await signed_in.follow(answer)).text
    assert not await token.works()
    assert await names(signed_in) == []


async def test_the_form_offers_what_the_person_holds_and_nothing_is_chosen_for_them(
    signed_in: PersonsBrowser,
) -> None:
    page = (await signed_in.client.get("/new-token")).text
    assert re.findall(r'name="scope" value="([^"]+)"', page) == ["read:items", "write:items"]
    assert " checked" not in page
    assert "confirm-admin" not in page


async def test_what_is_wrong_is_said_and_what_was_filled_in_stays(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    for scopes, changes, said in (
        ((), {}, "Name at least one scope"),
        (("read:items",), {"name": " "}, "1 to 100 characters"),
        (("read:items",), {"name": "x" * 101}, "1 to 100 characters"),
        (("read:items",), {"ends": ""}, "Give the day"),
        (("read:items",), {"ends": "tomorrow"}, "Give the day"),
        (("read:items",), {"ends": "9999-12-31"}, "This end is too far"),
        (("read:items",), {"ends": "2020-01-01"}, "This end is past"),
        (("read:users",), {}, "hold one of these scopes"),
        (("admin",), {"confirm-admin": "yes"}, "hold one of these scopes"),
        (("no:such",), {}, "hold one of these scopes"),
    ):
        changes = {"name": "<b>deploy</b>", **changes}
        page = await make(signed_in, runtime, *scopes, **changes)
        assert page.status_code in (403, 422), page.text
        assert said in Form(page.text).text
        assert "<b>deploy" not in page.text
        if "x" not in changes["name"]:
            assert (
                f'value="{changes["name"]}"'.replace("<", "&lt;").replace(">", "&gt;") in page.text
            )
        if scopes == ("read:items",):
            assert page.text.count(" checked") == 1
    assert await names(signed_in) == []


async def test_a_copied_cookie_makes_no_token_without_the_password(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    """Guesses count as they do where the password is changed, and are audited."""
    for guess in ("", "not my password", *(f"guess {i}" for i in range(8))):
        page = await make(signed_in, runtime, "read:items", password=guess)
        assert page.status_code == 403, page.text
        assert "The current password is wrong." in page.text
        assert 'type="password" required' in page.text
        assert PASSWORD not in page.text
    page = await make(signed_in, runtime, "read:items")
    assert page.status_code == 429, "there were ten wrong ones"
    assert "retry-after" in page.headers
    assert await names(signed_in) == []
    async with runtime.sessions() as db:
        failed = await told(db, "login.failed")
        assert [subject for _, subject, _ in failed] == [alice.id] * 10
        assert await told(db, "token.made") == []


async def test_a_token_with_admin_is_confirmed_on_the_page(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    browser = PersonsBrowser.of(runtime)
    async with browser.client:
        await browser.sign_in(await make_user(runtime, "admin"))
        page = await make(browser, runtime, "admin")
        assert page.status_code == 422
        assert "confirm that below" in page.text
        token = shown(client, await make(browser, runtime, "admin", **{"confirm-admin": "yes"}))
        assert await token.status("/users") == 200
        token = shown(client, await make(browser, runtime, "read:users"))
        assert await token.status("/users") == 200, "an admin holds every scope"
        assert await token.status("/audit") == 403


async def test_a_form_makes_one_token_however_often_it_is_sent(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    page = await signed_in.client.get("/new-token")
    fields = form_with(page.text, "Make token").fields
    terms = {"name": "backup", "ends": in_days(runtime, 30), "scope": "read:items"}
    data = {**fields, **terms, "password": PASSWORD}
    assert (await signed_in.client.post("/new-token", data=data)).status_code == 200
    again = await signed_in.client.post("/new-token", data=data)
    assert again.status_code == 409
    assert "has made a token already" in again.text
    assert not TOKEN.search(again.text)
    assert await names(signed_in) == ["backup"]


async def test_the_forms_need_their_own_token_of_this_browser(
    runtime: Runtime, signed_in: PersonsBrowser, client: httpx2.AsyncClient, alice: Someone
) -> None:
    theirs = await personal_token(client, runtime, alice, "read:items")
    assert (await make(signed_in, runtime, "read:items", token="x")).status_code == 403
    page = await signed_in.client.get("/account")
    fields = form_with(page.text, "Revoke backup").fields
    for data in ({"id": fields["id"]}, {**fields, "token": "x"}, {**fields, "id": "x"}):
        assert (await signed_in.client.post("/revoke-token", data=data)).status_code == 403
    foreign = {"sec-fetch-site": "cross-site"}
    answer = await signed_in.client.post("/revoke-token", data=fields, headers=foreign)
    assert answer.status_code == 403
    bob = PersonsBrowser.of(runtime)
    async with bob.client:
        await bob.sign_in(await make_user(runtime))
        assert (await bob.client.post("/revoke-token", data=fields)).status_code == 403
        bound = ("revoke-token", fields["id"])
        user_id = str((await client.get("/users/me", headers=theirs.header)).json()["id"])
        forged = runtime.page_tokens.write(
            signed_in.client.cookies["scopegate"], user_id, *bound, now=runtime.now()
        )
        data = {**fields, "token": forged}
        assert (await bob.client.post("/revoke-token", data=data)).status_code == 403
    async with client_of(runtime) as stranger:
        for method, path in (
            ("GET", "/new-token"),
            ("POST", "/new-token"),
            ("POST", "/revoke-token"),
        ):
            sent: dict[str, Any] = {"data": {"token": "x"}} if method == "POST" else {}
            answer = await stranger.request(method, path, headers=theirs.header, **sent)
            assert answer.headers["location"] == "sign-in", "a bearer token opens no page"
    assert await theirs.works()


async def test_the_domain_revokes_no_token_of_another_whatever_the_form_says(
    runtime: Runtime, signed_in: PersonsBrowser, client: httpx2.AsyncClient, alice: Someone
) -> None:
    """As if the form's token could be forged."""
    bob = await make_user(runtime, "read:items")
    theirs = await personal_token(client, runtime, bob, "read:items")
    bound = ("revoke-token", theirs.tokens["id"])
    token = runtime.page_tokens.write(
        signed_in.client.cookies["scopegate"], str(alice.id), *bound, now=runtime.now()
    )
    data = {"id": theirs.tokens["id"], "token": token}
    answer = await signed_in.client.post("/revoke-token", data=data)
    assert answer.headers["location"] == "account"
    assert await theirs.works()


async def test_end_all_others_revokes_tokens_too_and_the_page_says_so(
    runtime: Runtime, signed_in: PersonsBrowser, client: httpx2.AsyncClient
) -> None:
    token = shown(client, await make(signed_in, runtime, "read:items"))
    page = (await signed_in.client.get("/account")).text
    assert page.count('name="session"') == 1, "tokens stand in a list of their own"
    assert "This revokes your access tokens too." in page
    page = (await signed_in.follow(await signed_in.press("/account", "End all others"))).text
    assert "Access tokens have too." in page
    assert not await token.works()


async def test_a_changed_password_on_the_page_leaves_tokens(
    runtime: Runtime, signed_in: PersonsBrowser, client: httpx2.AsyncClient, alice: Someone
) -> None:
    token = shown(client, await make(signed_in, runtime, "read:items"))
    other = await sign_in(client, alice)
    new = {"new-password": "wrong donkey battery", "new-password-again": "wrong donkey battery"}
    fields = {"password": PASSWORD, **new}
    page = await signed_in.follow(await signed_in.press("/change-password", "Change", **fields))
    assert "Access tokens go on." in page.text
    assert [await token.works(), await other.works()] == [True, False]


async def test_a_person_who_has_lost_a_scope_is_offered_it_no_more(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    async with runtime.work(OPERATOR) as work:
        await revoke(work, alice.id, "read:items")
        await revoke(work, alice.id, "write:items")
    page = await signed_in.client.get("/new-token")
    assert "You hold no scope" in page.text
    assert "<form" not in page.text
    async with runtime.work(OPERATOR) as work:
        await grant(work, alice.id, "read:audit")
    page = await signed_in.client.get("/new-token")
    assert 'value="read:audit"' in page.text


async def test_the_page_and_the_api_list_the_same_tokens(
    runtime: Runtime,
    signed_in: PersonsBrowser,
    client: httpx2.AsyncClient,
    alice: Someone,
) -> None:
    for name in ("one", "two"):
        await personal_token(client, runtime, alice, "read:items", name=name)
    own = await sign_in(client, alice)
    listed = (await client.get(TOKENS, headers=own.header)).json()["items"]
    assert [each["name"] for each in listed] == await names(signed_in) == ["one", "two"]
