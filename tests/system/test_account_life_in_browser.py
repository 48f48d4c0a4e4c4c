"""The life of an account in a real browser on a phone, with mails that really come."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.conftest import SECRET
from tests.support.accessibility import axe, violations
from tests.support.browser import page_of
from tests.support.factories import PASSWORD
from tests.support.mailboxes import Mailboxes, mailboxes
from tests.support.processes import Service, serving

pytestmark = [pytest.mark.browser, pytest.mark.npm]

PHONE: ViewportSize = {"width": 390, "height": 844}
ADDRESS, NEW_ADDRESS = "carol@example.com", "new@example.com"
Look = Callable[[str], None]
SECOND, THIRD = "the second long password", "the third long password"


def sign_in(page: Page, service: Service, name: str, password: str) -> None:
    page.goto(f"{service.url}/sign-in")
    page.get_by_label("Username or e-mail address").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="carol")).to_be_visible()


def choose(page: Page, password: str) -> None:
    page.get_by_label("New password", exact=True).fill(password)
    page.get_by_label("New password again").fill(password)
    page.get_by_role("button", name="Set password").click()


def forget(page: Page, service: Service, mails: Mailboxes, address: str, password: str) -> None:
    page.goto(f"{service.url}/sign-in")
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("E-mail address").fill(address)
    page.get_by_role("button", name="Send link").click()
    expect(page.get_by_role("heading", name="Look at your mail")).to_be_visible()
    page.goto(mails.next_link(address))
    choose(page, password)
    expect(page.get_by_role("heading", name="Your password is changed")).to_be_visible()


def test_a_person_signs_up_forgets_changes_undoes_makes_a_token_exports_and_leaves(
    own_database_url: str, tmp_path: Path
) -> None:
    """And axe finds nothing on the way, in light and in dark."""
    script = axe()
    found: list[tuple[str, str, str, object]] = []
    base: dict[str, Any] = {
        "database_url": own_database_url,
        "secret_keys": SECRET,
        "sign_up": "open",
    }
    with mailboxes() as mails, serving(**base | mails.settings) as service:  # noqa: SIM117
        with page_of(service, viewport=PHONE) as page:

            def look(where: str) -> None:
                schemes: tuple[Literal["dark", "light"], ...] = ("dark", "light")
                for scheme in schemes:
                    page.emulate_media(color_scheme=scheme)
                    page.screenshot(path=tmp_path / f"{where}-{scheme}.png", full_page=True)
                    found.extend((where, scheme, *each) for each in violations(page, script))
                width = page.evaluate("document.documentElement.scrollWidth")
                assert width <= PHONE["width"], where

            sign_up(page, service, mails, look)
            look_at_recovery(page, service, mails, look)
            change_address_and_undo(page, service, mails, look)
            forget(page, service, mails, ADDRESS, THIRD)
            sign_in(page, service, "carol", THIRD)
            token = make_token(page, look)
            header = {"Authorization": f"Bearer {token}"}
            assert httpx2.get(f"{service.url}/items", headers=header).status_code == 200
            with page.expect_download() as download:
                page.get_by_role("button", name="Download your data").click()
            exported = json.loads(Path(download.value.path()).read_text())
            assert ADDRESS in json.dumps(exported)
            page.get_by_role("link", name="Delete your account").click()
            look("delete-account")
            page.get_by_label("Your password").fill(THIRD)
            page.get_by_role("button", name="Delete my account").click()
            expect(page.get_by_role("heading", name="Your account is deleted")).to_be_visible()
            look("account-deleted")
            assert httpx2.get(f"{service.url}/items", headers=header).status_code == 401
    assert found == []


def sign_up(page: Page, service: Service, mails: Mailboxes, look: Look) -> None:
    page.goto(f"{service.url}/sign-in")
    page.get_by_role("link", name="Create an account").click()
    look("sign-up")
    page.get_by_label("Username").fill("carol")
    page.get_by_label("E-mail address").fill(ADDRESS)
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password again").fill("short")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("alert")).to_contain_text("at least 8 bytes")
    look("sign-up-refused")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name="Look at your mail")).to_be_visible()
    look("signed-up")
    page.goto(mails.next_link(ADDRESS))
    look("verify-email")
    page.get_by_role("button", name="Confirm address").click()
    expect(page.get_by_role("heading", name="Your address is confirmed")).to_be_visible()
    look("verified")
    sign_in(page, service, "carol", PASSWORD)
    look("account")


def look_at_recovery(page: Page, service: Service, mails: Mailboxes, look: Look) -> None:
    page.goto(f"{service.url}/forgot-password")
    look("forgot-password")
    page.get_by_label("E-mail address").fill(ADDRESS)
    page.get_by_role("button", name="Send link").click()
    look("reset-asked")
    page.goto(mails.next_link(ADDRESS))
    look("reset-password")
    choose(page, SECOND)
    expect(page.get_by_role("heading", name="Your password is changed")).to_be_visible()
    look("reset")


def change_address_and_undo(page: Page, service: Service, mails: Mailboxes, look: Look) -> None:
    sign_in(page, service, ADDRESS, SECOND)
    page.get_by_role("link", name="Change your e-mail address").click()
    look("change-email")
    page.get_by_label("New e-mail address").fill(NEW_ADDRESS)
    page.get_by_label("Current password").fill(SECOND)
    page.get_by_role("button", name="Send link").click()
    expect(page.get_by_role("status")).to_contain_text("We have sent a link")
    page.goto(mails.next_link(NEW_ADDRESS))
    page.get_by_role("button", name="Confirm address").click()
    expect(page.get_by_role("heading", name="Your address is confirmed")).to_be_visible()
    page.goto(mails.next_link(ADDRESS))
    look("undo-email-change")
    page.get_by_role("button", name="Undo the change").click()
    expect(page.get_by_role("heading", name="Your old address is restored")).to_be_visible()
    look("undone")


def make_token(page: Page, look: Look) -> str:
    page.get_by_role("link", name="Make an access token").click()
    look("new-token")
    page.get_by_label("Name").fill("backup")
    page.get_by_label("Read items").check()
    page.get_by_label("Current password").fill(THIRD)
    page.get_by_role("button", name="Make token").click()
    token = page.get_by_label("backup").input_value()
    look("token-made")
    page.get_by_role("link", name="To your account").click()
    look("account-with-token")
    return token
