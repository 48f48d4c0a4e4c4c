"""axe: what it finds on a page, in light and dark, on a phone and a desk."""

import os

import pytest
from playwright.sync_api import Page

from tests.javascript import check


def axe() -> str:
    """The script of axe-core. Without npm the test is skipped, and in CI it fails."""
    if missing := check.missing_tools():
        reason = f"axe-core can't be installed without {' and '.join(missing)}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    check.install()
    return (check.INSTALLED / "axe-core" / "axe.min.js").read_text()


def violations(page: Page, script: str) -> list[tuple[str, object]]:
    """What axe finds on the page as it is: each rule, and where it is broken."""
    page.evaluate(f"{script};0")
    seen = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]]) for each in seen]
