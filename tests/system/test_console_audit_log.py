"""/console's page of the audit log, in a real browser: its filters, its export and its address."""

import csv
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import expect

from tests.support.consoles import PEOPLE, console, find, populated, sign_in, switch, token_of, told
from tests.support.processes import Service, serving

pytestmark = pytest.mark.browser


@pytest.fixture
async def settings(own_database_url: str) -> dict[str, Any]:
    return await populated(own_database_url)


def test_the_audit_log_is_narrowed_by_name_and_date_and_exported(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with serving(**settings) as service, console(service, timezone_id="America/Lima") as page:
        token_of(service, "alice")
        sign_in(page, "root")
        find(page, "alice")
        switch(page, "read:audit").click()
        page.get_by_label("Date").fill("2099-12-31")
        page.get_by_role("textbox", name="Reason").fill("=cmd()")
        page.get_by_role("button", name="Grant", exact=True).click()
        told(page, "alice holds read:audit")
        page.get_by_role("link", name="Audit", exact=True).click()
        entries = page.get_by_role("listitem")
        expect(entries.filter(has_text="User created")).to_have_count(len(PEOPLE))
        user = page.get_by_label("User", exact=True)
        user.press_sequentially("lic")
        expect(entries.filter(has_text="User created")).to_have_count(1)
        expect(entries.filter(has_text="expires at Dec 31, 2099, 11:59 PM")).to_have_count(1)
        expect(user).to_be_focused()
        with page.expect_download() as download:
            page.get_by_role("button", name="Export CSV").click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert re.fullmatch(r"scopegate-audit-\d{4}-\d\d-\d\d\.csv", file.name)
        rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
        assert len(rows) == entries.count()
        assert {row["subject_name"] for row in rows} == {"alice"}
        assert all(row["at"].endswith("-05:00") for row in rows)
        assert all(value[:1] not in {"=", "+", "-", "@"} for row in rows for value in row.values())
        user.fill("a")
        expect(page.get_by_text("Several users' names have this in them")).to_be_visible()
        user.fill("")
        expect(entries.filter(has_text="User created")).to_have_count(len(PEOPLE))
        page.get_by_label("To").fill("2020-01-01")
        expect(page.get_by_text("No entries match.")).to_be_visible()
        expect(page.get_by_text("live", exact=True)).to_be_hidden()
        page.get_by_label("From").fill("2020-01-01")
        page.get_by_label("To").fill("")
        expect(entries.filter(has_text="User created")).to_have_count(len(PEOPLE))


def test_no_cell_of_an_exported_audit_log_is_a_formula_whatever_separates_cells(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    formulas = '=1;=2;"@3"|+4,-5,\'=6|\uff1d7'
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        find(page, "alice")
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("New name").fill(formulas)
        page.get_by_role("dialog").get_by_role("button", name="Rename").click()
        expect(page.get_by_role("heading", name="=1;=2;")).to_be_visible()
        describe_a_scope(service, f"; {formulas}")
        page.get_by_role("link", name="Audit", exact=True).click()
        expect(page.get_by_role("listitem").filter(has_text="Scope registered")).to_have_count(1)
        with page.expect_download() as download:
            page.get_by_role("button", name="Export CSV").click()
        file = tmp_path / "audit.csv"
        download.value.save_as(file)
    text = file.read_text("utf-8-sig")
    details = [row["detail"] for row in csv.DictReader(text.splitlines())]
    assert any("'=2" in detail and "' =1" in detail for detail in details)
    for separator in ",;|\t":
        parsed = [
            cell for row in csv.reader(text.splitlines(), delimiter=separator) for cell in row
        ]
        for cell in [*parsed, *re.split(rf"[{separator}\r\n]", text)]:
            assert not re.match(r"[\s\"]*[=+\-@\uff1d]", cell), (separator, cell)


def describe_a_scope(service: Service, description: str) -> None:
    """Register a scope with this text, which the audit log shows."""
    bearer = {"Authorization": f"Bearer {token_of(service, 'root')['access_token']}"}
    body = {"description": description}
    answer = httpx2.put(f"{service.url}/scopes/read:orders", json=body, headers=bearer)
    assert answer.status_code == 200


def test_a_text_that_turns_the_direction_of_writing_turns_nothing_beside_it(
    settings: dict[str, Any],
) -> None:
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        find(page, "alice")
        switch(page, "read:audit").click()
        page.get_by_role("textbox", name="Reason").fill("\u202egnorw si")
        page.get_by_role("button", name="Grant", exact=True).click()
        told(page, "alice holds read:audit")
        isolates = "element => getComputedStyle(element).unicodeBidi"
        assert page.locator("q > *").evaluate(isolates) == "isolate"
        describe_a_scope(service, "\u202egnorw si")
        page.get_by_role("link", name="Audit", exact=True).click()
        text = page.locator(".fact code").filter(has_text="gnorw si")
        assert text.evaluate(isolates) == "isolate"


def test_an_id_in_the_address_leads_to_no_other_route(settings: dict[str, Any]) -> None:
    asked: list[str] = []
    with serving(**settings) as service, console(service) as page:
        sign_in(page, "root")
        expect(page.get_by_role("heading", name="Users")).to_be_visible()
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        page.evaluate("location.hash = 'audit?user=..%2Fscopes'")
        expect(page.get_by_role("heading", name="This page can't be shown")).to_be_visible()
    assert "/users/..%2Fscopes" in asked
    assert "/scopes" not in asked
