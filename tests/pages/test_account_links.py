"""The pages for sign-up, forgotten passwords and the links in mails."""

import uuid
from collections.abc import AsyncIterator

import httpx2
import pytest

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.browsing import Form, PersonsBrowser
from tests.support.factories import PASSWORD, Someone, login, make_user, sign_in
from tests.support.letters import (
    ADDRESS,
    delivered,
    make_reachable,
    only_mail,
    open_to_all,
    page_of,
    token_in,
)

NEW = "another long password"
TWICE = {"new-password": NEW, "new-password-again": NEW}


@pytest.fixture
async def browser(runtime: Runtime) -> AsyncIterator[PersonsBrowser]:
    """A browser in which no one is signed in, at a service where people may sign up."""
    browser = PersonsBrowser.of(open_to_all(runtime))
    async with browser.client:
        yield browser


async def test_a_person_signs_up_confirms_and_signs_in(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    page = await browser.client.get("/sign-in")
    assert 'href="sign-up"' in page.text
    new = {"username": "carol", "email": ADDRESS, **TWICE}
    page = await browser.follow(await browser.press("/sign-up", "new-password", **new))
    assert "We have sent you a link" in page.text
    mail = await only_mail(runtime)
    page = await browser.follow(await browser.press(page_of(mail), 'name="link"'))
    assert "Your address is confirmed" in page.text
    answer = await browser.sign_in(Someone(uuid.uuid4(), "carol"), password=NEW)
    assert answer.headers["location"] == "account"
    account = await browser.follow(answer)
    assert ADDRESS in account.text
    assert "Not confirmed" not in account.text


async def test_where_sign_up_is_closed_no_page_leads_to_it(runtime: Runtime) -> None:
    browser = PersonsBrowser.of(runtime)
    async with browser.client:
        assert "sign-up" not in (await browser.client.get("/sign-in")).text
        assert (await browser.client.get("/sign-up")).status_code == 404


async def test_what_does_not_fit_is_told_and_typed_text_stays(browser: PersonsBrowser) -> None:
    new = {"username": "carol", "email": "nowhere", **TWICE}
    answer = await browser.press("/sign-up", "new-password", **new)
    assert answer.status_code == 422
    assert "not an e-mail address" in answer.text
    assert 'value="carol"' in answer.text
    assert NEW not in answer.text
    new = {"username": "carol", "email": ADDRESS, **TWICE, "new-password-again": "other"}
    assert "not the same" in (await browser.press("/sign-up", "new-password", **new)).text


async def test_a_forgotten_password_is_replaced(runtime: Runtime, browser: PersonsBrowser) -> None:
    alice = await make_reachable(runtime, username="alice")
    page = await browser.follow(
        await browser.press("/forgot-password", 'id="email"', email=ADDRESS)
    )
    assert "If an account has this address" in page.text
    mail = await only_mail(runtime)
    page = await browser.follow(await browser.press(page_of(mail), "new-password", **TWICE))
    assert "Your password is changed" in page.text
    assert "sign-in" in page.text
    # No one is signed in by it.
    assert (await browser.client.get("/account")).headers["location"] == "sign-in"
    assert (await login(browser.client, alice, password=NEW)).status_code == 200


async def test_an_unknown_address_is_told_the_same(browser: PersonsBrowser) -> None:
    page = await browser.follow(
        await browser.press("/forgot-password", 'id="email"', email="stranger@example.com")
    )
    assert "If an account has this address" in page.text


async def test_a_link_is_not_used_up_by_being_opened(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    """Programs that look for harm in mails open links, and follow what they find by GET."""
    alice = await make_reachable(runtime)
    await browser.press("/forgot-password", 'id="email"', email=ADDRESS)
    mail = await only_mail(runtime)
    async with client_of(runtime) as scanner:
        for _ in range(3):
            for method in ("GET", "HEAD"):
                answer = await scanner.request(method, page_of(mail))
                assert answer.status_code == 200
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert answer.headers["cache-control"] == "no-store"
                assert "sgl_" not in answer.headers.get("set-cookie", "")
    assert (await login(browser.client, alice)).status_code == 200
    await browser.press(page_of(mail), "new-password", **TWICE)
    assert (await login(browser.client, alice, password=NEW)).status_code == 200


@pytest.mark.parametrize(
    "page", ["verify-email", "reset-password", "accept-invitation", "undo-email-change"]
)
@pytest.mark.parametrize("token", ["", "sgl_none", "x" * 5000, "%00"])
async def test_a_link_that_is_not_good_is_told(
    browser: PersonsBrowser, page: str, token: str
) -> None:
    answer = await browser.client.get(f"/{page}?token={token}")
    assert answer.status_code == 400
    assert "This link is not valid" in answer.text


async def test_a_form_of_another_site_uses_no_link(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    alice = await make_reachable(runtime)
    await browser.press("/forgot-password", 'id="email"', email=ADDRESS)
    token = token_in(await only_mail(runtime))
    for form_token in ("", "x"):
        answer = await browser.client.post(
            "/reset-password", data={"token": form_token, "link": token, **TWICE}
        )
        assert answer.status_code == 403
    assert (await login(browser.client, alice)).status_code == 200


async def test_two_different_passwords_use_nothing_up(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    await make_reachable(runtime)
    await browser.press("/forgot-password", 'id="email"', email=ADDRESS)
    link = page_of(await only_mail(runtime))
    answer = await browser.press(link, "new-password", **{**TWICE, "new-password-again": "x"})
    assert answer.status_code == 422
    assert "not the same" in answer.text
    again = Form(answer.text)
    done = await browser.client.post(f"/{again.action}", data={**again.fields, **TWICE})
    assert done.status_code == 303


async def test_an_invited_person_sets_a_password(runtime: Runtime, browser: PersonsBrowser) -> None:
    root = await sign_in(browser.client, await make_user(runtime, "admin"))
    made = await browser.client.post(
        "/users", json={"username": "bob", "email": ADDRESS}, headers=root.header
    )
    assert made.status_code == 201
    mail = await only_mail(runtime)
    page = await browser.client.get(page_of(mail))
    assert "<strong>bob</strong>" in page.text
    done = await browser.follow(await browser.press(page_of(mail), "new-password", **TWICE))
    assert "Your password is set" in done.text


async def test_a_change_of_address_is_asked_for_confirmed_and_undone(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    alice = await make_reachable(runtime, username="alice")
    await browser.sign_in(alice)
    changes = {"email": "new@example.com", "password": PASSWORD}
    page = await browser.follow(await browser.press("/change-email", 'id="email"', **changes))
    assert "We have sent a link to your new address" in page.text
    await browser.press(page_of(await only_mail(runtime)), 'name="link"')
    assert "new@example.com" in (await browser.client.get("/account")).text
    notice = await only_mail(runtime)
    page = await browser.follow(await browser.press(page_of(notice), 'name="link"'))
    assert "Your old address is restored" in page.text
    assert (await browser.client.get("/account")).headers["location"] == "sign-in"


async def test_a_change_of_address_asks_for_the_password(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    assert (await browser.client.get("/change-email")).headers["location"] == "sign-in"
    await browser.sign_in(await make_reachable(runtime, username="alice"))
    answer = await browser.press("/change-email", 'id="email"', email="a@b.example", password="x")
    assert answer.status_code == 403
    assert "The current password is wrong." in answer.text
    assert await delivered(runtime) == []


async def test_a_link_can_not_make_the_page_say_what_was_not_done(browser: PersonsBrowser) -> None:
    answer = await browser.client.get("/done?what=reset&token=x")
    assert answer.headers["location"] == "sign-in"


async def test_no_page_loads_or_leads_anywhere_else(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    for path in ("/sign-up", "/forgot-password", "/forgot-password?for=verification"):
        answer: httpx2.Response = await browser.client.get(path)
        assert answer.status_code == 200
        assert "http" not in answer.text.replace("http-equiv", "")
        assert "form-action 'self'" in answer.headers["content-security-policy"]
