"""A real browser: headless Chromium, by playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

# A deadline against hanging, not a budget.
expect.set_options(timeout=60_000)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# As root there is no sandbox; the rest keeps the browser itself from calling home.
QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


class Site(Protocol):
    """What a page is opened of: a service, or what is in front of one."""

    @property
    def url(self) -> str:
        """Where it is."""


def browser() -> str:
    """Where Chromium is; without one the test is skipped, and in CI it fails."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    reason = "there is no Chromium here, so no page is tried in a browser"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def page_of(service: Site, *others: str, **options: Any) -> Iterator[Page]:
    """A page that, as is asserted at the end, asked no host but the service's and these others."""
    executable = browser()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=QUIET)
        page = chromium.new_page(**options)
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        yield page
        assert hosts == {urlsplit(service.url).netloc, *others}
        chromium.close()
