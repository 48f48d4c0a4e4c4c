"""What attacks on the sign-in have found: each stays mended."""

from dataclasses import replace

import httpx2
import pytest
from sqlalchemy import text, update

from app.access.client_registry import delete_client
from app.runtime import Runtime
from app.tokens.models import ID_TOKENS, SigningKey
from tests.conftest import client_of
from tests.pages.test_password import COOKIE, change
from tests.support.browsing import Application, Form, PersonsBrowser, answered, register
from tests.support.factories import OPERATOR, Someone, bearer, make_user, sign_in


@pytest.fixture
async def code_of_a_copied_cookie(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> str:
    thief = PersonsBrowser(client_of(runtime))
    async with thief.client:
        thief.client.cookies.set(COOKIE, signed_in.client.cookies[COOKIE])
        return await thief.code(app)


async def test_a_new_password_voids_codes(
    signed_in: PersonsBrowser, app: Application, code_of_a_copied_cookie: str
) -> None:
    assert (await change(signed_in)).status_code == 303
    answer = await app.redeem(signed_in.client, code_of_a_copied_cookie)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_ending_all_other_sessions_voids_codes(
    signed_in: PersonsBrowser, app: Application, alice: Someone, code_of_a_copied_cookie: str
) -> None:
    await sign_in(signed_in.client, alice)
    answer = await signed_in.press("/account", "End all others")
    assert answer.status_code == 303
    assert (await app.redeem(signed_in.client, code_of_a_copied_cookie)).status_code == 400


async def test_a_key_for_id_tokens_that_will_retire_has_a_successor(own_runtime: Runtime) -> None:
    """The previous release's `key rotate` retires it, and makes none."""
    runtime = own_runtime
    await runtime.adopt_signing_algorithm()
    async with runtime.database.sessions() as db, db.begin():
        of_id_tokens = SigningKey.purpose == ID_TOKENS
        await db.execute(update(SigningKey).where(of_id_tokens).values(retires_at=runtime.now()))
    await runtime.adopt_signing_algorithm()
    runtime.keyring.signing_id_tokens(runtime.now(), "RS256")


async def test_another_sites_form_replaces_no_cookie(
    signed_in: PersonsBrowser, alice: Someone
) -> None:
    """A browser sends no cookie with it, and would take a new one for that which it has."""
    cookies = dict(signed_in.client.cookies)
    signed_in.client.cookies.clear()
    form = {"username": alice.username, "password": "x", "token": "x"}
    for path in ("/sign-in", "/sign-out", "/logout", "/consent", "/change-password"):
        answer = await signed_in.client.post(path, data=form)
        assert "set-cookie" not in answer.headers, path
    signed_in.client.cookies.update(cookies)
    assert (await signed_in.client.get("/account")).status_code == 200


@pytest.mark.parametrize("before", ["\xa0", "\x85", "\x1c"])
async def test_a_cookie_whose_name_begins_otherwise_is_another(
    runtime: Runtime, signed_in: PersonsBrowser, before: str
) -> None:
    """Another host of the domain can set it: the prefix of the name does not protect it."""
    cookie = f"{before}{COOKIE}={signed_in.client.cookies[COOKIE]}".encode("latin-1")
    async with client_of(runtime) as other:
        answer = await other.get("/account", headers={b"cookie": cookie})
    assert answer.headers["location"] == "sign-in"


async def test_a_consent_to_admin_is_none_to_know_the_persons_name(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    app = await register(runtime, "tool", scopes=["admin"])
    await browser.sign_in(await make_user(runtime, "admin"))
    page = await browser.authorize(app, scope="openid profile admin")
    code = answered(await browser.decide(page, scopes=["admin"]))["code"]
    tokens = await app.tokens(browser.client, code)
    assert tokens.tokens["scope"] == "admin openid"
    for scope in ("openid profile admin", "email"):
        answer = await browser.authorize(app, scope=scope, prompt="none")
        assert answered(answer)["error"] == "consent_required"


async def test_an_id_token_of_a_deleted_client_signs_nobody_out(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    hint = (await signed_in.let_in(app, scope="openid")).tokens["id_token"]
    await register(runtime, "other")
    asked = {"id_token_hint": hint, "client_id": "other"}
    assert (await signed_in.client.get("/logout", params=asked)).status_code == 400
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, app.client_id)
    answer = await signed_in.client.get("/logout", params={"id_token_hint": hint})
    assert Form(answer.text).action.startswith("confirm-logout")


async def test_without_a_cookie_signing_out_removes_none(browser: PersonsBrowser) -> None:
    assert "set-cookie" not in (await browser.client.get("/logout")).headers


async def test_a_scope_that_the_previous_release_has_registered_is_no_grant(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    alice = await make_user(runtime, "read:items")
    async with runtime.database.sessions() as db, db.begin():
        await db.execute(text("INSERT INTO scopes VALUES ('openid', 'Mine')"))
        grant = text("INSERT INTO grants (user_id, scope) VALUES (:user, 'openid')")
        await db.execute(grant, {"user": alice.id})
    for user in (alice, await make_user(runtime, "admin")):
        header = await bearer(client, user)
        assert (await client.get("/userinfo", headers=header)).status_code == 403
    about = (await client.get("/.well-known/openid-configuration")).json()
    assert about["scopes_supported"].count("openid") == 1


async def test_what_cant_be_stored_is_told_to_the_client(
    signed_in: PersonsBrowser, app: Application
) -> None:
    answer = await signed_in.authorize(app, nonce="a\0b")
    assert answered(answer)["error"] == "invalid_request"
    code = await signed_in.code(app)
    answer = await app.redeem(signed_in.client, code, redirect_uri="\0")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_proxy_cant_ask_for_scopes_that_any_client_has(
    signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app, scope="openid profile read:items")
    for scope, status in (("profile", 422), ("read:items openid", 422), ("read:items", 200)):
        asked = f"/forward-auth?scope={scope}"
        answer = await signed_in.client.get(asked, headers=tokens.header)
        assert answer.status_code == status, scope


async def test_a_client_that_is_called_like_the_audience_signs_nobody_in(
    runtime: Runtime, app: Application
) -> None:
    """Its ID tokens have the audience of access tokens."""
    settings = runtime.settings.model_copy(update={"audience": app.client_id})
    browser = PersonsBrowser.of(replace(runtime, settings=settings))
    async with browser.client:
        assert (await browser.authorize(app, scope="openid")).status_code == 400
