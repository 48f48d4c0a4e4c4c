"""/docs in a real browser: the Authorize button signs in, and no other host is asked."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page

from app.access.scopes import SHIPPED
from tests.conftest import SECRET
from tests.support.browser import page_of
from tests.support.factories import PASSWORD
from tests.support.processes import command, serving

pytestmark = pytest.mark.browser


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    """A service's settings, with alice in its database."""
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    scopes = ("--scope", "read:items", "--scope", "write:items")
    await command("user", "create", "alice", *scopes, stdin=PASSWORD, **settings)
    return settings


def test_authorize_lists_the_scopes_and_signs_in(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, page_of(service) as page:
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{service.url}/docs")
        sign_in(page, "alice", scope="read:items")
        assert json.loads(answer_of_me(page))["scopes"] == ["read:items"]
        assert [each for each in complaints if "Content Security Policy" in each] == []


def sign_in(page: Page, username: str, *, scope: str) -> None:
    """Press Authorize, fill the form, tick one scope."""
    page.click("button.authorize")
    listed = page.inner_text(".scopes")
    assert all(name in listed and text in listed for name, text in SHIPPED.items())
    page.fill("#oauth_username", username)
    page.fill("#oauth_password", PASSWORD)
    page.click(f"label[for^='{scope}']")
    page.click(".auth-btn-wrapper button.authorize")
    page.wait_for_selector("button:has-text('Logout')")
    page.click("button.btn-done")


def answer_of_me(page: Page) -> str:
    """Try GET /users/me out; the body that the page shows."""
    page.click("#operations-me-me_users_me_get .opblock-summary-control")
    page.click("button.try-out__btn")
    page.click("button.execute")
    return page.inner_text(".live-responses-table .highlight-code code")
