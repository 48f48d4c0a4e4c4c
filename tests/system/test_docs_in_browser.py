"""/docs in a real browser: the Authorize button signs in, and no other host is asked."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.access.scopes import SHIPPED
from tests.conftest import SECRET
from tests.support.browser import page_of
from tests.support.clients import need
from tests.support.factories import PASSWORD
from tests.support.processes import command, serving
from tests.support.proxies import below_a_path

pytestmark = pytest.mark.browser


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with alice in its database."""
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    scopes = ("--scope", "read:items", "--scope", "write:items")
    await command("user", "create", "alice", *scopes, stdin=PASSWORD, **settings)
    return settings


def test_authorize_offers_one_way_to_sign_in_and_lists_the_scopes(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, page_of(service) as page:
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{service.url}/docs")
        sign_in(page, "alice", scope="read:items")
        assert json.loads(answer_of_me(page))["scopes"] == ["read:items"]
        assert [each for each in complaints if "Content Security Policy" in each] == []


@pytest.mark.parametrize("path", ["/auth", "/a/b", "/token"])
def test_below_a_path_that_a_proxy_strips_the_page_shows_signs_in_and_calls(
    settings: dict[str, Any], tmp_path: Path, path: str
) -> None:
    need("nginx")
    with below_a_path(path, tmp_path, **settings) as issuer, page_of(Proxied(issuer)) as page:
        page.goto(f"{issuer}/docs")
        sign_in(page, "alice", scope="read:items")
        assert json.loads(answer_of_me(page))["scopes"] == ["read:items"]
        page.goto(f"{issuer}/console")
        expect(page.get_by_role("heading", name="alice")).to_be_visible()


@dataclass(frozen=True)
class Proxied:
    """A proxy before a service."""

    url: str


def sign_in(page: Page, username: str, *, scope: str) -> None:
    """Press Authorize, tick one scope, and sign in at the page that opens."""
    page.click("button.authorize")
    page.wait_for_selector(".auth-container")
    asked = page.locator(".auth-container input:not([type=checkbox]):visible")
    assert asked.count() == 0, "no name and no password is typed here"
    assert page.locator(".auth-btn-wrapper button.authorize").count() == 1, "one way to sign in"
    listed = page.inner_text(".scopes")
    assert all(name in listed and text in listed for name, text in SHIPPED.items())
    page.click(f"label[for^='{scope}']")
    with page.expect_popup() as opened:
        page.click(".auth-btn-wrapper button.authorize")
    opened.value.get_by_label("Username").fill(username)
    opened.value.get_by_label("Password").fill(PASSWORD)
    opened.value.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("button:has-text('Logout')")
    page.click("button.btn-done")


def answer_of_me(page: Page) -> str:
    """Try GET /users/me out; the body that the page shows."""
    page.click("#operations-me-get_me .opblock-summary-control")
    page.click("button.try-out__btn")
    page.click("button.execute")
    return page.inner_text(".live-responses-table .highlight-code code")
