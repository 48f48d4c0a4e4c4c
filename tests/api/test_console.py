"""/console: its headers keep it to itself, and its files are all there."""

import re
from pathlib import PurePosixPath
from typing import get_args
from urllib.parse import urljoin

import httpx2
import pytest

from app.api.console import FILES
from app.audit.log import Action

ASSETS = [
    str(PurePosixPath("console") / file.relative_to(FILES))
    for file in sorted((FILES / "assets").rglob("*"))
    if file.is_file()
]
"""Their paths, as the page names them: relative to the service's root."""
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


@pytest.mark.parametrize("path", ["/console", *(f"/{path}" for path in ASSETS)])
async def test_every_file_may_do_as_little_as_it_needs(
    client: httpx2.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    headers = answer.headers
    directives = headers["content-security-policy"].split("; ")
    assert dict(each.split(" ", 1) for each in directives) == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-cache"


async def test_a_file_that_did_not_change_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    first = await client.get("/console/assets/main.js")
    again = {"If-None-Match": first.headers["etag"]}
    assert (await client.get("/console/assets/main.js", headers=again)).status_code == 304


async def test_what_the_page_and_its_modules_name_is_there(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/console")).text
    named = set(re.findall(r'(?:src|href)="(console/[^"]+)"', page))
    for path in ASSETS:
        module = (await client.get(f"/{path}")).text
        imported = re.findall(r'from "(\.[^"]+)"', module)
        named |= {urljoin(path, each) for each in imported}
    assert named == set(ASSETS)


@pytest.mark.parametrize("path", ["/console/assets/../index.html", "/console/assets/%2e%2e/x"])
async def test_nothing_beside_the_files_is_served(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


def test_every_audit_action_has_words() -> None:
    words = (FILES / "assets" / "pages" / "audit.js").read_text()
    assert [action for action in get_args(Action) if f'"{action}"' not in words] == []
