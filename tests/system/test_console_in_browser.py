"""/console in a real browser: what it promises to those who use it, and to those it is used on."""

import re
from typing import Any

import httpx2
import pytest
from playwright.sync_api import expect

from tests.support.consoles import (
    HOSTILE,
    PEOPLE,
    console,
    find,
    populated,
    sign_in,
    status,
    switch,
    tab_to,
    token_of,
)
from tests.support.factories import PASSWORD
from tests.support.processes import eventually, serving

pytestmark = pytest.mark.browser
RIGHTMOST = """
    Math.max(...[...document.querySelectorAll("main *")].map(e => e.getBoundingClientRect().right))
"""


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    return await populated(own_database_url)


def test_a_grant_switched_off_stops_the_token_and_is_told(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        token = token_of(service, "alice")
        assert status(service, "/items", token) == 200
        sign_in(page, "root")
        find(page, "alice")
        switch(page, "read:items").uncheck()
        expect(page.get_by_role("status")).to_contain_text("alice no longer holds read:items")
        assert status(service, "/items", token) == 403
        page.get_by_role("link", name="Audit log").click()
        line = page.get_by_role("listitem").filter(has_text="Revoked")
        expect(line).to_contain_text("alice")
        expect(line).to_contain_text("read:items")
        expect(line).to_contain_text("by root from 127.0.0.1")


def test_what_is_done_meanwhile_appears_in_the_audit_log(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        page.get_by_role("link", name="Audit").click()
        expect(page.get_by_role("listitem")).to_contain_text(["Signed in", "Granted"])
        assert "error" in token_of(service, "nobody")
        refused = page.get_by_role("listitem").filter(has_text="Sign-in refused")
        expect(refused).to_contain_text("by no signed-in user")
        page.get_by_label("User", exact=True).fill("alice")
        page.get_by_label("Action").select_option("Granted")
        granted = page.get_by_role("listitem").filter(has_text="Granted")
        expect(granted).to_have_count(len(PEOPLE["alice"]))
        expect(page.get_by_role("listitem").filter(has_text="Sign-in refused")).to_have_count(0)


def test_a_user_named_with_html_is_shown_as_text(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        find(page, HOSTILE)
        switch(page, "read:items").uncheck()
        expect(page.get_by_role("status")).to_contain_text(HOSTILE)
        page.get_by_role("link", name="Audit log").click()
        expect(page.get_by_role("listitem").filter(has_text="Revoked")).to_contain_text(HOSTILE)
        assert page.locator("main img").count() == 0


def test_the_keyboard_alone_signs_in_and_grants(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        press = page.keyboard
        expect(page.get_by_label("Username")).to_be_focused()
        press.type("root")
        press.press("Tab")
        press.type(PASSWORD)
        press.press("Enter")
        expect(page.get_by_role("heading", name="Users")).to_be_visible()
        tab_to(page, page.get_by_role("link", name="alice"))
        press.press("Enter")
        expect(page.get_by_role("heading", name="alice")).to_be_visible()
        audit = switch(page, "read:audit")
        tab_to(page, audit)
        press.press("Space")
        expect(page.get_by_role("dialog")).to_be_visible()
        press.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        # The page is drawn anew after it, and the keyboard is where it was.
        expect(audit).not_to_be_checked()
        expect(audit).to_be_focused()
        press.press("Space")
        tab_to(page, page.get_by_role("textbox", name="Reason"))
        press.type("Holidays")
        press.press("Enter")
        expect(audit).to_be_checked()
        expect(page.get_by_role("listitem").filter(has=audit)).to_contain_text("Holidays")
        expect(audit).to_be_focused()
        ring = "element => getComputedStyle(element).outlineStyle"
        assert audit.evaluate(ring) == "solid"


def test_what_one_may_not_do_is_not_offered_and_refusals_are_shown(
    settings: dict[str, Any],
) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "clerk")
        expect(page.get_by_role("link", name="Audit")).to_have_count(0)
        expect(page.get_by_role("button", name="New user")).to_have_count(0)
        find(page, "alice")
        expect(switch(page, "read:items")).to_be_checked()
        assert page.locator("[role=switch]:enabled").count() == 0
        expect(page.get_by_role("button", name="Disable")).to_have_count(0)
        page.goto(f"{service.url}/console#audit")
        expect(page.get_by_text("This page needs the scope read:audit.")).to_be_visible()


def test_the_last_admin_is_told_why_not(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        find(page, "root")
        switch(page, "admin").click()
        expect(page.get_by_role("alert")).to_contain_text("No other enabled user holds admin")
        expect(switch(page, "admin")).to_be_checked()
        page.get_by_role("button", name="Disable").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Disable").click()
        expect(dialog.get_by_role("alert")).to_contain_text("No other enabled user holds admin")


@pytest.mark.parametrize("text", ["a\0b", "x" * 255])
def test_a_search_that_is_refused_says_so_and_shows_no_other_list(
    settings: dict[str, Any], text: str
) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        expect(page.get_by_role("link", name="alice")).to_be_visible()
        search = page.get_by_role("searchbox", name="Search by name")
        search.fill(text)
        expect(page.get_by_role("alert")).to_have_text(re.compile(r"^q: This is .*[^.]\.×$"))
        expect(page.get_by_role("link", name="alice")).to_have_count(0)
        expect(page.get_by_text("No user matches.")).to_be_hidden()
        expect(page.get_by_text("4 users")).to_have_count(0)
        search.fill("ali")
        expect(page.get_by_role("link", name="alice")).to_be_visible()
        expect(page.get_by_text("1 user", exact=True)).to_be_visible()


def test_a_service_account_gets_a_secret_that_is_shown_once(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        page.get_by_role("button", name="New user").click()
        page.get_by_label("Username").fill("mailer")
        page.get_by_label("Kind").select_option("service")
        page.get_by_role("button", name="Create").click()
        secret = page.get_by_label("Client secret").input_value()
        page.get_by_role("button", name="I have saved it").click()
        expect(page.get_by_role("heading", name="mailer")).to_be_visible()
        assert secret not in page.content()
        form = {"grant_type": "client_credentials", "client_id": "mailer", "client_secret": secret}
        assert httpx2.post(f"{service.url}/token", data=form).status_code == 200
        page.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("status")).to_contain_text("The secret is revoked")
        assert httpx2.post(f"{service.url}/token", data=form).status_code == 401


def test_tokens_are_renewed_in_time_and_an_ended_session_asks_to_sign_in(
    settings: dict[str, Any],
) -> None:
    with serving(**settings, access_token_lifetime=3) as service, console(service) as page:
        answers: list[int] = []
        page.on("response", lambda answer: answers.append(answer.status))
        sign_in(page, "root")
        renewed = lambda answer: "refresh_token" in (answer.request.post_data or "")  # noqa: E731
        with page.expect_response(renewed):
            page.get_by_role("link", name="Audit").click()
            # Followed for longer than a token lives.
            expect(page.get_by_role("listitem").first).to_be_visible()
        assert 401 not in answers
        root = token_of(service, "root")
        bearer = {"Authorization": f"Bearer {root['access_token']}"}
        httpx2.delete(f"{service.url}/users/me/sessions", headers=bearer)
        expect(page.get_by_role("status")).to_contain_text("Your session has ended")


def test_a_reload_keeps_you_signed_in_by_a_session_of_the_new_page(
    settings: dict[str, Any],
) -> None:
    with serving(**settings) as service, console(service) as page:
        with page.expect_response(f"{service.url}/token") as answer:
            sign_in(page, "root")
        token = answer.value.json()
        find(page, "alice")
        here = page.url
        assert status(service, "/users/me", token) == 200
        page.reload()
        expect(page.get_by_role("heading", name="alice")).to_be_visible()
        assert page.url == here
        eventually(lambda: status(service, "/users/me", token) == 401)


def test_signing_out_ends_the_session_of_the_page_and_that_of_the_browser(
    settings: dict[str, Any],
) -> None:
    with serving(**settings) as service, console(service) as page:
        with page.expect_response(f"{service.url}/token") as answer:
            sign_in(page, "root")
        token = answer.value.json()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("status")).to_have_text("You are signed out.")
        assert page.url == f"{service.url}/console"
        assert status(service, "/users/me", token) == 401
        assert page.context.cookies() == []
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_label("Password")).to_have_value("")
        sign_in(page, "root")
        expect(page.get_by_role("heading", name="Users")).to_be_visible()


def test_an_answer_to_a_sign_in_that_this_page_did_not_ask_for_is_not_taken(
    settings: dict[str, Any],
) -> None:
    """By such a link an attacker would have somebody work in the attacker's account."""
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        expect(page.get_by_role("heading", name="Users")).to_be_visible()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{service.url}/console?code=sgc_of-an-attacker&state=x")
        expect(page.get_by_role("status")).to_have_text("Sign in again.")
        assert f"{service.url}/token" not in asked
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Users")).to_be_visible()


def test_without_the_password_grant_people_sign_in_all_the_same(settings: dict[str, Any]) -> None:
    with serving(**settings, password_grant=False) as service, console(service) as page:
        sign_in(page, "root")
        expect(page.get_by_role("heading", name="Users")).to_be_visible()


def test_at_another_address_the_console_says_where_it_is(settings: dict[str, Any]) -> None:
    issuer = "https://auth.example"
    with serving(**settings, issuer=issuer) as service, console(service) as page:
        expect(page.get_by_role("status")).to_contain_text(f"{issuer}/console")
        expect(page.get_by_role("button", name="Sign in")).to_have_count(0)


def test_a_phone_shows_every_page_without_scrolling_sideways(settings: dict[str, Any]) -> None:
    phone = {"width": 390, "height": 844}
    with serving(**settings) as service, console(service, viewport=phone) as page:
        token_of(service, "alice")
        sign_in(page, "root")
        find(page, "alice")
        for name in ("alice", "Users", "Scopes", "Audit", "Account"):
            if name != "alice":
                page.get_by_role("link", name=name, exact=True).click()
                expect(page).to_have_title(re.compile("root" if name == "Account" else name))
            assert page.evaluate(RIGHTMOST) <= phone["width"]
