"""/console in a real browser: the page of clients."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.consoles import console, populated, sign_in, told
from tests.support.processes import serving

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    return await populated(own_database_url)


def row(page: Page, name: str) -> Any:
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))


def test_an_administrator_registers_changes_and_deletes_a_client(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service, viewport=PHONE) as page:
        sign_in(page, "root")
        page.get_by_role("link", name="Clients").click()
        page.get_by_role("button", name="Register a client").click()
        page.get_by_label("Name").fill("Orders")
        page.get_by_label("Redirect URIs", exact=True).fill("http://orders.example/callback")
        page.get_by_label("Scopes").fill("read:items")
        page.get_by_label("Client id").fill("orders")
        page.get_by_label("Kind").select_option("confidential")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Register").click()
        expect(dialog.get_by_role("alert")).to_contain_text("A redirect URI is https")
        page.get_by_label("Redirect URIs", exact=True).fill("https://orders.example/callback")
        dialog.get_by_role("button", name="Register").click()
        expect(page.get_by_label("Client secret")).to_have_value(re.compile("^sgs_"))
        page.get_by_role("button", name="I have saved it").click()
        told(page, "Orders is registered. Its client id is orders.")
        expect(row(page, "Orders")).to_contain_text("At most: read:items")
        expect(row(page, "Orders")).to_contain_text("confidential")

        page.get_by_role("button", name="Change Orders").click()
        expect(page.get_by_label("Redirect URIs", exact=True)).to_have_value(
            "https://orders.example/callback"
        )
        page.get_by_label("Name").fill("All orders")
        page.get_by_label("Scopes").fill("")
        page.get_by_label("Consent").select_option("trusted")
        dialog.get_by_role("button", name="Save").click()
        told(page, "Orders is changed")
        expect(row(page, "All orders")).to_contain_text("every scope but admin")
        expect(row(page, "All orders")).to_contain_text("trusted")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

        page.get_by_role("button", name="Delete All orders").click()
        dialog.get_by_role("button", name="Delete").click()
        told(page, "All orders is deleted")
        expect(row(page, "All orders")).to_have_count(0)


def test_the_clients_that_ship_can_be_seen_and_not_be_changed(settings: dict[str, Any]) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        page.get_by_role("link", name="Clients").click()
        for name in ("Scopegate console", "Scopegate API documentation"):
            expect(row(page, name)).to_contain_text("built in")
            expect(row(page, name).get_by_role("button")).to_have_count(0)
