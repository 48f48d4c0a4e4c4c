"""The pages for people who sign in, in a real browser without scripts."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from playwright.sync_api import Page, Route, ViewportSize, expect

from tests.conftest import SECRET
from tests.support.accessibility import axe, violations
from tests.support.browser import page_of
from tests.support.browsing import CALLBACK, Application
from tests.support.factories import PASSWORD
from tests.support.processes import Service, command, serving

pytestmark = pytest.mark.browser

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 800}
LONG_URI = "https://a-rather-long-name.of-a-host.in-a-department.example/callback"


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with alice and two applications in its database."""
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    scopes = ("--scope", "read:items", "--scope", "write:items", "--scope", "read:audit")
    await command("user", "create", "alice", *scopes, stdin=PASSWORD, **settings)
    for client_id, uri in (("orders", CALLBACK), ("tool", "http://127.0.0.1/callback")):
        words = ("client", "create", "Orders of a shop", "--client-id", client_id)
        await command(*words, "--redirect-uri", uri, "--redirect-uri", LONG_URI, **settings)
    return settings


def started(page: Page, service: Service, application: Application, **changes: str) -> None:
    """Come from the application, whose page is there in place of the real one."""
    host = f"{'://'.join(urlsplit(application.redirect_uri)[:2])}/**"
    page.route(host, lambda route: route.fulfill(body="<h1>Back</h1>", content_type="text/html"))
    asking = application.asking(**{"scope": "read:items write:items read:audit"} | changes)
    page.goto(f"{service.url}/authorize?{urlencode(asking)}")


def sign_in(page: Page) -> None:
    """Fill the form by the keyboard alone."""
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type("alice")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_person_signs_in_agrees_and_comes_back_without_a_script(
    settings: dict[str, Any], viewport: ViewportSize, scheme: str, tmp_path: Path
) -> None:
    application = Application("orders")
    options = {"viewport": viewport, "color_scheme": scheme, "java_script_enabled": False}
    with (
        serving(**settings) as service,
        page_of(service, "app.example", **options) as page,
    ):
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        started(page, service, application)
        fits(page, tmp_path / "sign-in.png")
        page.get_by_label("Username").fill("alice")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("wrong")
        expect(page.get_by_label("Username")).to_have_value("alice")
        fits(page, tmp_path / "refused.png")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="app.example")).to_be_visible()
        fits(page, tmp_path / "consent.png")
        switch = page.get_by_role("switch", name="Create and change items")
        expect(switch).to_be_checked()
        switch.uncheck()
        page.get_by_role("button", name="Allow").click()
        expect(page.get_by_role("heading", name="Back")).to_be_visible()
        tokens = redeem(service, application, page.url)
        assert tokens["scope"] == "read:audit read:items"
        # The second time nothing is asked: neither the password nor, for these, the consent.
        asking = application.asking(scope="read:items")
        # With the browser's cookies, but not by a page: what the redirect leads to is not there.
        address = f"{service.url}/authorize?{urlencode(asking)}"
        location = page.request.get(address, max_redirects=0).headers["location"]
        assert redeem(service, application, location)["scope"] == "read:items"
        page.goto(f"{service.url}/account")
        expect(page.get_by_role("heading", name="alice")).to_be_visible()
        expect(page.get_by_text("This browser", exact=True)).to_be_visible()
        fits(page, tmp_path / "account.png")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(f"{service.url}/authorize?client_id=no-such")
        fits(page, tmp_path / "error.png")
        # Of the status, which is meant, and of nothing else.
        assert [each for each in complaints if "status of 40" not in each] == []


def test_by_the_keyboard_alone_a_person_comes_back_to_a_program_on_the_device(
    settings: dict[str, Any],
) -> None:
    application = Application("tool", "http://127.0.0.1:49152/callback")
    with (
        serving(**settings) as service,
        page_of(service, "127.0.0.1:49152", java_script_enabled=False) as page,
    ):
        started(page, service, application)
        sign_in(page)
        expect(page.get_by_text("a program on this device")).to_be_visible()
        for _ in range(6):  # Three switches, a link, Deny, Allow.
            page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Allow")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Back")).to_be_visible()
        assert "read:items" in redeem(service, application, page.url)["scope"]


@pytest.mark.npm
def test_by_the_keyboard_alone_a_person_changes_their_password_and_ends_sessions(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """And axe finds nothing on these pages, with what they say when something is wrong."""
    script = axe()
    found: list[tuple[str, str, str, object]] = []
    with serving(**settings) as service, page_of(service, viewport=PHONE) as page:

        def look(where: str) -> None:
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size(PHONE)
            fits(page, tmp_path / f"{where}-dark-phone.png")
            found.extend((where, "dark", *each) for each in violations(page, script))
            page.emulate_media(color_scheme="light")
            page.set_viewport_size(DESK)
            fits(page, tmp_path / f"{where}-light-desk.png")
            found.extend((where, "light", *each) for each in violations(page, script))

        elsewhere = {"username": "alice", "password": PASSWORD}
        assert httpx2.post(f"{service.url}/token", data=elsewhere).status_code == 200
        page.goto(f"{service.url}/sign-in")
        look("sign-in")
        sign_in(page)
        expect(page.get_by_role("listitem")).to_have_count(2)
        look("account")
        for _ in range(6):  # Two links, Sign out, End, End, End all others.
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("All your other sessions have ended")
        expect(page.get_by_role("listitem")).to_have_count(1)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        for password in ("wrong", PASSWORD):
            expect(page.get_by_label("Current password")).to_be_focused()
            if password == PASSWORD:
                look("refused")
            page.keyboard.type(password)
            for _ in range(2):
                page.keyboard.press("Tab")
                page.keyboard.type("another long password")
            page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("Your password is changed")
        look("changed")
    assert found == []


@pytest.mark.npm
def test_axe_finds_nothing_on_the_pages_that_applications_lead_to(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    script = axe()
    found: list[tuple[str, str, str, object]] = []
    device = Application("tool", "http://127.0.0.1:49152/callback")
    with serving(**settings) as service, page_of(service, viewport=PHONE) as page:

        def look(where: str) -> None:
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size(PHONE)
            fits(page, tmp_path / f"{where}-dark.png")
            found.extend((where, "dark", *each) for each in violations(page, script))
            page.emulate_media(color_scheme="light")
            page.set_viewport_size(DESK)
            fits(page, tmp_path / f"{where}-light.png")
            found.extend((where, "light", *each) for each in violations(page, script))

        page.goto(f"{service.url}/authorize?client_id=no-such")
        look("error")
        started(page, service, Application("orders"))
        look("sign-in-for-an-application")
        sign_in(page)
        expect(page.get_by_role("button", name="Allow")).to_be_visible()
        look("consent")
        started(page, service, device, scope="openid profile")
        expect(page.get_by_role("button", name="Allow")).to_be_visible()
        look("consent-of-a-device")
        page.goto(f"{service.url}/logout")
        expect(page.get_by_role("heading", name="Sign out?")).to_be_visible()
        look("logout")
        page.goto(f"{service.url}/")
        look("start")
    assert found == []


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_a_person_makes_a_token_by_the_keyboard_and_revokes_it_without_a_script(
    settings: dict[str, Any], viewport: ViewportSize, tmp_path: Path
) -> None:
    """And axe finds nothing on the way, which takes a browser with scripts."""
    options: dict[str, Any] = {"viewport": viewport}
    with (
        serving(**settings) as service,
        page_of(service, java_script_enabled=False, **options) as page,
    ):
        page.goto(f"{service.url}/sign-in")
        sign_in(page)
        page.get_by_role("link", name="Make an access token").click()
        page.get_by_label("Name", exact=True).focus()
        page.keyboard.type("nightly backup")
        fits(page, tmp_path / "new-token.png")
        box = page.get_by_role("checkbox", name="Read items")
        expect(box).not_to_be_checked()
        box.focus()
        page.keyboard.press("Space")
        page.get_by_label("Current password").focus()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("wrong")
        expect(page.get_by_label("Name", exact=True)).to_have_value("nightly backup")
        expect(box).to_be_checked()
        page.get_by_label("Current password").focus()
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("shown this once")
        fits(page, tmp_path / "token-made.png")
        token = page.get_by_label("nightly backup").input_value()
        header = {"Authorization": f"Bearer {token}"}
        assert httpx2.get(f"{service.url}/items", headers=header).status_code == 200
        page.get_by_role("link", name="To your account").click()
        expect(page.get_by_text("nightly backup")).to_be_visible()
        fits(page, tmp_path / "account-with-tokens.png")
        page.get_by_role("button", name="Revoke nightly backup").click()
        expect(page.get_by_role("status")).to_contain_text("is revoked")
        assert httpx2.get(f"{service.url}/items", headers=header).status_code == 401


@pytest.mark.npm
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_tokens_are_made_and_shown(
    settings: dict[str, Any], scheme: str
) -> None:
    script = axe()
    found: list[tuple[str, object]] = []
    options: dict[str, Any] = {"viewport": PHONE, "color_scheme": scheme, "bypass_csp": True}
    with serving(**settings) as service, page_of(service, **options) as page:
        page.goto(f"{service.url}/sign-in")
        sign_in(page)
        page.get_by_role("link", name="Make an access token").click()
        expect(page.get_by_label("Name", exact=True)).to_be_visible()
        found += violations(page, script)
        page.get_by_label("Name", exact=True).fill("backup")
        for password in ("wrong", PASSWORD):
            page.get_by_label("Current password").fill(password)
            page.get_by_role("checkbox", name="Read items").check()
            page.get_by_role("button", name="Make token").click()
            said = "shown this once" if password == PASSWORD else "password is wrong"
            expect(page.get_by_text(said)).to_be_visible()
            found += violations(page, script)
        page.goto(f"{service.url}/account")
        expect(page.get_by_role("button", name="Revoke backup")).to_be_visible()
        found += violations(page, script)
    assert found == []


def test_denying_leads_back_with_the_error(settings: dict[str, Any]) -> None:
    application = Application("orders")
    with serving(**settings) as service, page_of(service, "app.example") as page:
        started(page, service, application)
        sign_in(page)
        page.get_by_role("button", name="Deny").click()
        expect(page.get_by_role("heading", name="Back")).to_be_visible()
        assert "error=access_denied" in page.url


def test_a_form_that_another_site_sends_does_nothing(settings: dict[str, Any]) -> None:
    """A real cross-site form, with the browser's real rules for cookies."""

    def evil(route: Route) -> None:
        action = f"{service.url}/consent?{urlencode(application.asking())}"
        fields = "<input name=decision value=allow><input name=scope value=read:items>"
        form = f"<form method=post action='{action}'>{fields}<button>Win</button></form>"
        route.fulfill(body=form, content_type="text/html")

    application = Application("orders")
    with serving(**settings) as service, page_of(service, "evil.example") as page:
        started(page, service, application)
        sign_in(page)
        expect(page.get_by_role("heading", name="app.example")).to_be_visible()
        page.route("https://evil.example/**", evil)
        page.goto("https://evil.example/")
        page.get_by_role("button", name="Win").click()
        expect(page.get_by_role("alert")).to_contain_text("did not come from a page of ours")


def fits(page: Page, picture: Path) -> None:
    """Keep a picture; nothing is wider than the window."""
    page.screenshot(path=picture, full_page=True)
    inside = page.viewport_size
    assert inside
    box = page.locator("main").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= inside["width"]


def redeem(service: Service, application: Application, url: str) -> dict[str, Any]:
    """The tokens for the code in the address that the browser was led to."""
    (code,) = parse_qs(urlsplit(url).query)["code"]
    data = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": application.redirect_uri,
        "client_id": application.client_id,
        "code_verifier": application.verifier,
    }
    answer = httpx2.post(f"{service.url}/token", data=data)
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens
