"""/console: its headers forbid other hosts and scripts, its files exist, and it repeats no list."""

import json
import re
from pathlib import PurePosixPath
from typing import Any, get_args
from urllib.parse import urljoin

import httpx2
import pytest

from app.access.scopes import ADMIN, SHIPPED
from app.api.console import FILES, KindConfig
from app.audit.actions import WARNINGS, Action
from app.identity.users import Kind

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


def config_in(page: str) -> dict[str, Any]:
    """Return the data in the page, which must be the only script element with content."""
    scripts = re.findall(r"<script\b([^>]*)>(.*?)</script>", page, re.S)
    (config,) = [text for attributes, text in scripts if "src=" not in attributes]
    assert '<script type="application/json" id="config">' in page
    parsed: dict[str, Any] = json.loads(config)
    return parsed


async def test_the_page_gets_its_lists_from_python(client: httpx2.AsyncClient) -> None:
    config = config_in((await client.get("/console")).text)
    assert config["admin"] == ADMIN
    assert [action["name"] for action in config["actions"]] == list(get_args(Action))
    assert {each["name"] for each in config["actions"] if each["warning"]} == WARNINGS
    assert [kind["name"] for kind in config["kinds"]] == list(get_args(Kind))
    assert all(each["text"] for each in [*config["actions"], *config["kinds"]])


async def test_the_page_gets_the_scopes_of_each_route(client: httpx2.AsyncClient) -> None:
    documented = {
        f"{method.upper()} {path}": security[0]["OAuth2PasswordBearer"]
        for path, operations in (await client.get("/openapi.json")).json()["paths"].items()
        for method, operation in operations.items()
        if len(security := operation.get("security", [])) == 1
        and "OAuth2PasswordBearer" in security[0]
    }
    assert documented
    assert config_in((await client.get("/console")).text)["routes"] == documented


async def test_no_text_in_the_configuration_can_end_its_block(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "</script><script>alert(1)</script><!--"
    monkeypatch.setattr("app.api.console.KINDS", [KindConfig(name="person", text=text)])
    page = (await client.get("/console")).text
    assert text not in page
    assert config_in(page)["kinds"] == [{"name": "person", "text": text}]


@pytest.mark.parametrize("path", [each for each in ASSETS if each.endswith(".js")])
def test_no_script_repeats_a_list_from_python(path: str) -> None:
    script = (FILES.parent / path).read_text()
    assert script.startswith("// @ts-check\n")
    names = [*get_args(Action), *SHIPPED]
    assert [name for name in names if re.search(f"""["'`]{name}["'`]""", script)] == []
