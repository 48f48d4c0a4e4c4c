"""The console in a browser, as tests use it: open it, sign in, go somewhere."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support.browser import page_of
from tests.support.factories import PASSWORD, make_user
from tests.support.processes import Service

HOSTILE = '<img/src="x"/onerror="alert(1)">'
WATCH = (
    "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective))"
)
PEOPLE = {
    "root": ["admin"],
    "clerk": ["read:users", "read:items"],
    "alice": ["read:items", "write:items"],
    HOSTILE: ["read:items"],
}


async def populated(database_url: str) -> dict[str, Any]:
    """A service's settings, with people in its database."""
    async with Runtime.open(settings_for(database_url)) as runtime:
        for name, scopes in PEOPLE.items():
            await make_user(runtime, *scopes, username=name)
    return {"database_url": database_url, "secret_keys": SECRET}


@contextmanager
def console(service: Service, **options: Any) -> Iterator[Page]:
    """The page; at its end, that it broke no policy, threw nothing and kept nothing."""
    with page_of(service, **options) as page:
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("console", lambda said: wrong.append(said.text) if "CSP" in said.text else None)
        page.add_init_script(WATCH)
        page.goto(f"{service.url}/console")
        yield page
        kept = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
        assert kept == [0, 0, ""]
        assert {each["name"] for each in page.context.cookies()} <= {"scopegate"}
        assert wrong == []


def sign_in(page: Page, username: str, password: str = PASSWORD) -> None:
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def find(page: Page, name: str) -> None:
    """Search for the user and open their page."""
    page.get_by_role("searchbox", name="Search by name").fill(name)
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def switch(page: Page, scope: str) -> Locator:
    return page.get_by_role("switch", name=re.compile(f"^{scope}"))


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until the target has the focus."""
    expect(target).to_be_visible()
    for _ in range(50):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    pytest.fail("the Tab key does not lead there")


def token_of(service: Service, username: str, agent: str | None = None) -> dict[str, Any]:
    form = {"username": username, "password": PASSWORD}
    headers = {"User-Agent": agent or "Mozilla/5.0" + " like Gecko" * 9}
    answer: dict[str, Any] = httpx2.post(f"{service.url}/token", data=form, headers=headers).json()
    return answer


def status(service: Service, path: str, token: dict[str, Any]) -> int:
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    return httpx2.get(f"{service.url}{path}", headers=bearer).status_code


def told(page: Page, text: str) -> None:
    """Wait until the page has said so."""
    expect(page.locator("#notices [role=status]")).to_contain_text(text)
