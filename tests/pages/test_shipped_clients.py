"""The clients that ship, `scopegate-console` and `scopegate-docs`: what they may, and where to."""

from dataclasses import replace

import pytest

from app.runtime import Runtime
from tests.support.browsing import Application, PersonsBrowser, answered
from tests.support.factories import Someone, make_user

ISSUER = "http://127.0.0.1:8000"
CONSOLE = Application("scopegate-console", f"{ISSUER}/console")
DOCS = Application("scopegate-docs", f"{ISSUER}/docs/signed-in")


def served_at(runtime: Runtime, issuer: str) -> PersonsBrowser:
    settings = runtime.settings.model_copy(update={"issuer": issuer})
    return PersonsBrowser.of(replace(runtime, settings=settings))


@pytest.fixture
async def root(runtime: Runtime) -> Someone:
    return await make_user(runtime, "admin")


@pytest.mark.parametrize("application", [CONSOLE, DOCS])
async def test_they_sign_in_without_asking_for_consent_and_get_all_that_the_person_holds(
    signed_in: PersonsBrowser, application: Application
) -> None:
    answer = await signed_in.authorize(application, scope=None)
    assert answer.headers["location"].startswith(application.redirect_uri)
    tokens = await application.tokens(signed_in.client, answered(answer)["code"])
    assert set(tokens.tokens["scope"].split()) - {"openid"} == {"read:items", "write:items"}


@pytest.mark.parametrize("application", [CONSOLE, DOCS])
async def test_an_admin_is_an_admin_there(
    browser: PersonsBrowser, root: Someone, application: Application
) -> None:
    await browser.sign_in(root)
    tokens = await browser.let_in(application, scope=None)
    assert "admin" in tokens.tokens["scope"].split()
    assert await tokens.status("/users") == 200


async def test_signing_out_of_the_console_signs_out_of_the_browser(
    signed_in: PersonsBrowser,
) -> None:
    tokens = await signed_in.let_in(CONSOLE, scope=None)
    back = f"{ISSUER}/console?signed-out"
    asked = {"id_token_hint": tokens.tokens["id_token"], "post_logout_redirect_uri": back}
    answer = await signed_in.client.get("/logout", params=asked)
    assert (answer.status_code, answer.headers["location"]) == (303, back)
    assert (await signed_in.client.get("/account")).status_code == 303


@pytest.mark.parametrize(
    ("issuer", "uri", "is_ours"),
    [
        ("https://auth.example", "https://auth.example/console", True),
        ("https://auth.example/below", "https://auth.example/below/console", True),
        ("https://auth.example/below", "https://auth.example/console", False),
        ("https://auth.example", "https://auth.example:8443/console", False),
        ("https://auth.example", "http://localhost/console", False),
        ("https://auth.example", "https://auth.example.evil.example/console", False),
        ("https://auth.example", "/console", False),
        ("http://localhost:8000", "http://localhost:9000/console", False),
        ("http://localhost:8000", "http://127.0.0.1:8000/console", True),
        ("http://[::1]:8000", "http://localhost:8000/console", True),
        ("http://localhost:8000", "https://localhost:8000/console", False),
        ("http://localhost:8000", "http://localhost.example/console", False),
        ("http://localhost:8000/a", "http://127.0.0.1:8000/console", False),
    ],
)
async def test_their_redirect_uris_are_below_the_issuer(
    runtime: Runtime, issuer: str, uri: str, is_ours: bool
) -> None:
    browser = served_at(runtime, issuer)
    async with browser.client:
        answer = await browser.authorize(CONSOLE, redirect_uri=uri)
    assert answer.status_code == (303 if is_ours else 400)
    if is_ours:
        assert answer.headers["location"].startswith("sign-in?")


async def test_no_client_registers_an_address_below_the_issuer_by_its_path(
    browser: PersonsBrowser, root: Someone
) -> None:
    await browser.sign_in(root)
    tokens = await browser.let_in(CONSOLE, scope=None)
    new = {"name": "x", "redirect_uris": ["/console"]}
    answer = await browser.client.post("/clients", json=new, headers=tokens.header)
    assert answer.status_code == 422
