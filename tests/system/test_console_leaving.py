"""/console in a real browser, when a page with an open dialog is left: by Back or the address."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Dialog, Page, Route, expect

from tests.support.browser import page_of
from tests.support.consoles import console, find, populated, sign_in, switch, token_of
from tests.support.processes import Service, eventually, serving

pytestmark = pytest.mark.browser


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    return await populated(own_database_url)


def new_service(page: Page, name: str) -> str:
    """Create a service account; the secret that is shown."""
    page.get_by_role("button", name="New user").click()
    page.get_by_label("Username").fill(name)
    page.get_by_label("Kind").select_option("service")
    page.get_by_role("button", name="Create").click()
    return page.get_by_label("Client secret").input_value()


@pytest.mark.parametrize("leave", ["history.back()", "location.hash = 'account'"])
def test_a_dialog_does_not_outlive_its_page(settings: dict[str, Any], leave: str) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        dialog = page.get_by_role("dialog")
        for name in ("Rename", "Disable", "Set password", "grant", "New user"):
            page.get_by_role("link", name="Users", exact=True).click()
            if name != "New user":
                find(page, "alice")
            if name == "grant":
                switch(page, "read:audit").click()
            else:
                page.get_by_role("button", name=name).click()
            expect(dialog).to_be_visible()
            page.evaluate(leave)
            expect(dialog).to_have_count(0)
            expect(page.locator("[aria-busy]")).to_have_count(0)
            # The page beneath can be used.
            page.get_by_role("link", name="Scopes", exact=True).click()
            expect(page.get_by_role("heading", name="Scopes")).to_be_visible()


def test_no_dialog_stays_over_the_sign_in(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        find(page, "root")
        page.get_by_role("link", name="Audit", exact=True).click()
        expect(page.get_by_role("heading", name="Audit log")).to_be_visible()
        page.evaluate("document.body.append(document.createElement('dialog'))")
        page.evaluate("document.querySelector('dialog').showModal()")
        root = token_of(service, "root")
        bearer = {"Authorization": f"Bearer {root['access_token']}"}
        httpx2.delete(f"{service.url}/users/me/sessions", headers=bearer)
        expect(page.get_by_text("Your session has ended")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_secret_stays_on_its_page_until_it_is_saved(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        page.get_by_role("link", name="Scopes", exact=True).click()
        page.get_by_role("link", name="Users", exact=True).click()
        secret = new_service(page, "mailer")
        here = page.url
        reminder = page.get_by_role("dialog").get_by_role("alert")
        expect(reminder).to_be_hidden()
        for leave in ("history.back()", "location.hash = 'account'", "history.back()"):
            page.evaluate(leave)
            expect(reminder).to_contain_text("Save this first")
            expect(page.get_by_label("Client secret")).to_have_value(secret)
            page.wait_for_url(here)
            expect(page).to_have_title("Users · Scopegate")
        page.get_by_role("button", name="I have saved it").click()
        expect(page.get_by_role("heading", name="mailer")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Users")).to_be_visible()


@contextmanager
def asked(service: Service) -> Iterator[tuple[Page, list[str]]]:
    """The console, with a page before it; and what the browser asks, which is answered with no."""
    with page_of(service) as page:
        questions: list[str] = []

        def answer(dialog: Dialog) -> None:
            questions.append(dialog.type)
            dialog.dismiss()

        page.on("dialog", answer)
        page.goto(f"{service.url}/health/live")
        page.goto(f"{service.url}/console")
        yield page, questions


def test_the_browser_asks_before_it_leaves_a_secret_that_is_not_saved(
    settings: dict[str, Any],
) -> None:
    with serving(**settings) as service, asked(service) as (page, questions):
        sign_in(page, "root")
        secret = new_service(page, "mailer")
        for leave in (
            "history.go(-2)",
            "history.back()",
            "location.href = '/docs'",
            "location.reload()",
        ):
            questions.clear()
            # Later: what asks would keep the script, and so the test, waiting.
            page.evaluate(f"() => {{ setTimeout(() => {{ {leave} }}) }}")
            eventually(lambda: page.evaluate("true") and questions == ["beforeunload"])
            expect(page.get_by_label("Client secret")).to_have_value(secret)
        page.get_by_role("button", name="I have saved it").click()
        expect(page.get_by_role("heading", name="mailer")).to_be_visible()
        questions.clear()
        page.goto(f"{service.url}/docs")
        assert questions == []


def test_what_a_closed_dialog_had_begun_is_still_told(settings: dict[str, Any]) -> None:
    held: list[Route] = []
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        find(page, "alice")
        page.get_by_role("link", name="Users", exact=True).click()
        page.route("**/users", lambda route: held.append(route), times=1)
        page.get_by_role("button", name="New user").click()
        page.get_by_label("Username").fill("mailer")
        page.get_by_label("Kind").select_option("service")
        with page.expect_request("**/users"):
            page.get_by_role("button", name="Create").click()
        page.evaluate("location.hash = 'scopes'")
        expect(page.get_by_role("heading", name="Scopes")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)
        held.pop().continue_()
        expect(page.get_by_label("Client secret")).to_be_visible()
        page.get_by_role("button", name="I have saved it").click()
        expect(page.get_by_role("heading", name="mailer")).to_be_visible()

        page.get_by_role("link", name="Users", exact=True).click()
        find(page, "alice")
        page.route("**/grants/read%3Aaudit", lambda route: held.append(route), times=1)
        switch(page, "read:audit").click()
        with page.expect_request("**/grants/read%3Aaudit"):
            page.get_by_role("button", name="Grant", exact=True).click()
        page.evaluate("location.hash = 'scopes'")
        expect(page.get_by_role("dialog")).to_have_count(0)
        held.pop().abort()
        expect(page.get_by_role("alert")).to_contain_text("can't be reached")
