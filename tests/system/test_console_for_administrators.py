"""/console in a real browser, as an administrator uses it: by mouse, on a phone, by keyboard."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from app.access.scopes import SHIPPED
from tests.support.accessibility import axe, violations
from tests.support.consoles import (
    PEOPLE,
    console,
    find,
    populated,
    sign_in,
    status,
    switch,
    tab_to,
    token_of,
    told,
)
from tests.support.processes import serving

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
AGENTS = {
    "Safari on iPhone": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605."
    "1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Edge on Windows": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like "
    "Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
    "Chrome on Android": "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Mobile Safari/537.36",
    "Firefox on Linux": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "curl": "curl/8.5.0",
    "my-own-program 1": "my-own-program 1",
}
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    return await populated(own_database_url)


def names(page: Page) -> list[str]:
    return page.locator("li > a.name").all_inner_texts()


def test_a_secret_stays_until_it_is_saved_and_is_listed_and_revoked(
    settings: dict[str, Any],
) -> None:
    with serving(**settings) as service, console(service, viewport=PHONE) as page:
        sign_in(page, "root")
        page.get_by_role("button", name="New user").click()
        page.get_by_label("Username").fill("mailer")
        page.get_by_label("Kind").select_option("service")
        page.get_by_role("button", name="Create").click()
        secret = page.get_by_label("Client secret")
        value = secret.input_value()
        for _ in range(3):
            page.keyboard.press("Escape")
        expect(secret).to_be_visible()
        assert secret.input_value() == value
        inside = "element => element.scrollWidth <= element.clientWidth"
        assert secret.evaluate(inside), "it wraps"
        assert page.evaluate(WIDTH) <= PHONE["width"]
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy").first.click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == value
        page.get_by_role("button", name="I have saved it").click()
        expect(page.get_by_role("heading", name="mailer")).to_be_visible()
        rows = page.locator("#section-secrets li")
        expect(rows).to_have_count(1)
        expect(rows.first).to_contain_text("created ")
        page.get_by_role("button", name="New secret").click()
        page.get_by_role("button", name="I have saved it").click()
        expect(rows).to_have_count(2)
        rows.first.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        told(page, "The secret is revoked")
        expect(rows).to_have_count(1)


def test_a_grant_ends_by_a_preset_or_a_date_alone_and_is_undone(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service, timezone_id="Asia/Tokyo") as page:
        sign_in(page, "root")
        find(page, "alice")
        row = page.get_by_role("listitem").filter(has=switch(page, "read:audit"))
        grant = page.get_by_role("button", name="Grant", exact=True)
        dialog = page.get_by_role("dialog")

        switch(page, "read:audit").click()
        page.get_by_label("Date").fill("2099-12-31")
        expect(dialog).to_contain_text("Ends Dec 31, 2099, 11:59 PM")
        page.get_by_role("textbox", name="Reason").fill("Holidays")
        grant.click()
        told(page, "alice holds read:audit")
        expect(row).to_contain_text("until Dec 31, 2099, 11:59 PM")

        switch(page, "read:audit").click()
        told(page, "alice no longer holds read:audit")
        page.get_by_role("button", name="Undo").click()
        told(page, "is as it was before")
        expect(row).to_contain_text("until Dec 31, 2099, 11:59 PM")
        expect(row).to_contain_text("Holidays")
        expect(switch(page, "read:audit")).to_be_focused()

        page.get_by_role("button", name="Edit end and reason of read:audit").click()
        page.get_by_role("button", name="Never").click()
        page.get_by_role("button", name="Save").click()
        told(page, "alice holds read:audit")
        expect(row).not_to_contain_text("until")
        page.get_by_role("button", name="Undo").click()
        expect(row).to_contain_text("until Dec 31, 2099, 11:59 PM")

        for preset, length in (("1 hour", timedelta(hours=1)), ("7 days", timedelta(days=7))):
            switch(page, "read:users").click()
            page.get_by_role("button", name=preset).click()
            grant.click()
            told(page, "alice holds read:users")
            shown = page.get_by_role("listitem").filter(has=switch(page, "read:users"))
            end = shown.locator("strong time").get_attribute("datetime")
            left = datetime.fromisoformat(end or "") - datetime.now(UTC)
            assert abs(left - length) < timedelta(minutes=3)
            page.get_by_role("button", name="Undo").click()
            expect(switch(page, "read:users")).not_to_be_checked()

        switch(page, "read:users").click()
        page.get_by_label("Time").fill("18:00")
        grant.click()
        expect(dialog.get_by_role("alert")).to_contain_text("Choose a date too")


def test_users_are_found_newest_first_by_filters_renamed_and_signed_out_one_by_one(
    settings: dict[str, Any],
) -> None:
    with serving(**settings) as service, console(service, user_agent=AGENTS["curl"]) as page:
        tokens = {shown: token_of(service, "alice", agent) for shown, agent in AGENTS.items()}
        sign_in(page, "root")
        expect(page.get_by_text("4 users")).to_be_visible()
        assert names(page) == list(PEOPLE)[::-1]
        expect(page.get_by_role("listitem").filter(has_text="alice")).to_contain_text(
            "last sign-in"
        )
        expect(page.get_by_role("listitem").filter(has_text="clerk")).to_contain_text("no sign-in")
        page.get_by_label("Granted scope").select_option("read:users")
        expect(page.get_by_text("1 user", exact=True)).to_be_visible()
        assert names(page) == ["clerk"]
        page.get_by_label("State").select_option("Disabled")
        expect(page.get_by_text("No user matches.")).to_be_visible()
        page.goto(f"{page.url.partition('#')[0]}#users?scope=write%3Aitems&disabled=false")
        expect(page.get_by_text("1 user", exact=True)).to_be_visible()
        page.get_by_role("link", name="alice").click()

        page.get_by_role("button", name="Rename").click()
        page.get_by_label("New name").fill("alicia")
        page.get_by_role("dialog").get_by_role("button", name="Rename").click()
        expect(page.get_by_role("heading", name="alicia")).to_be_visible()

        sessions = page.locator("#section-sessions")
        for shown in AGENTS:
            expect(sessions.get_by_text(shown, exact=True)).to_be_visible()
        phone = sessions.get_by_role("listitem").filter(has_text="Safari on iPhone")
        phone.get_by_role("button", name="End").click()
        told(page, "The session has ended")
        expect(phone).to_have_count(0)
        expect(sessions).to_be_focused()
        assert status(service, "/users/me", tokens.pop("Safari on iPhone")) == 401
        assert {status(service, "/users/me", token) for token in tokens.values()} == {200}

        page.get_by_role("link", name="Account").click()
        own = page.get_by_role("listitem").filter(has_text="this device")
        expect(own).to_have_count(1)
        expect(own).to_contain_text("curl")


def test_what_is_slow_is_said_to_load_and_offline_the_bar_is_right(
    settings: dict[str, Any],
) -> None:
    held: list[Route] = []
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        expect(page.get_by_role("heading", name="Users")).to_be_visible()
        page.route("**/scopes?*", lambda route: held.append(route), times=1)
        page.get_by_role("link", name="Scopes").click()
        expect(page.get_by_text("Loading…")).to_be_visible()
        expect(page.get_by_role("main")).to_have_attribute("aria-busy", "true")
        held.pop().continue_()
        expect(page.get_by_role("heading", name="Scopes")).to_be_visible()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        for scope in SHIPPED:
            row = page.get_by_role("listitem").filter(has=page.get_by_text(scope, exact=True))
            expect(row).to_contain_text("built in")
            expect(row.get_by_role("button")).to_have_count(0)
        page.context.set_offline(True)
        for name in ("Audit", "Account", "Users"):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.locator("nav [aria-current=page]")).to_have_text(name)
            expect(page.get_by_role("heading", name="This page can't be shown")).to_be_visible()
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("heading", name="Users")).to_be_visible()


def test_the_keyboard_alone_filters_renames_and_keeps_a_secret(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        press = page.keyboard
        sign_in(page, "root")
        tab_to(page, page.get_by_role("button", name="New user"))
        press.press("Enter")
        press.type("mailer")
        press.press("Tab")
        press.type("A service")
        expect(page.get_by_label("Password")).to_be_hidden()
        tab_to(page, page.get_by_role("button", name="Create"))
        press.press("Enter")
        secret = page.get_by_label("Client secret")
        expect(secret).to_be_visible()
        press.press("Escape")
        tab_to(page, page.get_by_role("button", name="I have saved it"))
        press.press("Enter")
        expect(page.get_by_role("heading", name="mailer")).to_be_visible()
        tab_to(page, page.get_by_role("link", name="Users", exact=True))
        press.press("Enter")
        expect(page.get_by_role("link", name="mailer")).to_be_visible()
        tab_to(page, page.get_by_label("Accounts"))
        press.type("Pe")
        expect(page.get_by_role("link", name="mailer")).to_have_count(0)
        expect(page.get_by_label("Accounts")).to_be_focused()
        tab_to(page, page.get_by_role("link", name="clerk"))
        press.press("Enter")
        tab_to(page, page.get_by_role("button", name="Rename"))
        press.press("Enter")
        press.press("Control+a")
        press.type("clara")
        press.press("Enter")
        expect(page.get_by_role("heading", name="clara")).to_be_visible()
        expect(page.get_by_role("button", name="Rename")).to_be_focused()


@pytest.mark.npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_nothing(settings: dict[str, Any], scheme: str, viewport: dict[str, int]) -> None:
    script = axe()
    options = {"color_scheme": scheme, "viewport": viewport, "reduced_motion": "reduce"}
    found: list[tuple[str, str, object]] = []
    with serving(**settings) as service, console(service, **options) as page:

        def look(where: str) -> None:
            expect(page.locator("[aria-busy]")).to_have_count(0)
            found.extend((where, *each) for each in violations(page, script))
            assert page.evaluate(WIDTH) <= viewport["width"], where

        token_of(service, "alice")
        look("sign-in")
        sign_in(page, "root")
        visit_everything(page, look)
        page.goto(f"{service.url}/")
        look("start")
    assert found == []


def visit_everything(page: Page, look: Callable[[str], None]) -> None:
    """Look at every page, and at every kind of dialog and message."""
    page.get_by_role("button", name="New user").click()
    look("new user")
    page.keyboard.press("Escape")
    look("users")
    find(page, "alice")
    look("user")
    switch(page, "read:users").click()
    look("grant")
    page.get_by_role("button", name="Grant", exact=True).click()
    told(page, "alice holds read:users")
    look("undo")
    page.get_by_role("button", name="End all").click()
    look("end all")
    page.keyboard.press("Escape")
    for name in ("Users", "Scopes", "Audit", "Account"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page).to_have_title(re.compile("root" if name == "Account" else name))
        look(name)
    page.get_by_role("button", name="Change password").click()
    look("password")
    page.keyboard.press("Escape")
