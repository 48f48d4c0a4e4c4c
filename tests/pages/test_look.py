"""The brand, and templates of the operator's."""

import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.errors import ConfigurationError
from app.main import create_app
from app.pages.look import OUR_FOLDER
from app.runtime import Runtime
from app.settings import Settings
from tests.conftest import client_of
from tests.support.browsing import Application, PersonsBrowser
from tests.support.documents import Document
from tests.support.factories import Someone

GUIDE = Document("docs/how-to/brand-the-pages.md")
SVG = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def looking(runtime: Runtime, **settings: Any) -> httpx2.AsyncClient:
    """A client of the same service with these settings."""
    changed = runtime.settings.model_copy(update=settings)
    return client_of(replace(runtime, settings=changed))


def example() -> str:
    """The template that the guide shows."""
    return textwrap.dedent("".join(re.findall(r"^       .*\n", GUIDE.text, re.M)))


def complaint(**settings: Any) -> str:
    """What stops the start, in one line."""
    with pytest.raises(ConfigurationError) as caught:
        create_app(Settings(_env_file=None, **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_name_and_logo_are_on_every_page(
    runtime: Runtime, alice: Someone, app: Application, tmp_path: Path
) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_text(SVG)
    async with looking(runtime, brand_name="Shop & Sons", brand_logo=logo) as client:
        browser = PersonsBrowser(client)
        pages = [await client.get("/sign-in"), await client.get("/authorize?client_id=no-such")]
        await browser.sign_in(alice)
        pages += [await browser.authorize(app), await client.get("/account")]
        pages.append(await client.get("/change-password"))
        for page in pages:
            assert "· Shop &amp; Sons</title>" in page.text
            assert page.text.count("Shop &amp; Sons") == 2
            assert page.text.count('src="brand/logo?v=') == 1
            assert "Scopegate" not in page.text
            assert "icon.svg" not in page.text


async def test_without_settings_the_pages_are_scopegates(browser: PersonsBrowser) -> None:
    page = await browser.client.get("/sign-in")
    assert "<title>Sign in · Scopegate</title>" in page.text
    assert 'src="console/assets/icon.svg"' in page.text
    assert (await browser.client.get("/brand/logo")).status_code == 404


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(SVG.encode(), "image/svg+xml"), (PNG, "image/png")],
    ids=["svg", "png"],
)
async def test_the_logo_is_served_as_a_picture_and_nothing_else(
    runtime: Runtime, tmp_path: Path, content: bytes, media_type: str
) -> None:
    """Whatever its name is; and opened by itself, no script in it runs."""
    (tmp_path / "logo").write_bytes(content)
    async with looking(runtime, brand_logo=tmp_path / "logo") as client:
        answer = await client.get("/brand/logo")
    assert answer.content == content
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "public, max-age=86400"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("; sandbox")
    assert "script-src" not in policy


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xd8\xff\xe0 a JPEG", "is neither SVG nor PNG"),
        (b"", "is neither SVG nor PNG"),
        (b"<html xmlns='http://www.w3.org/1999/xhtml'/>", "is neither SVG nor PNG"),
        (b"<svg>no namespace: browsers show nothing</svg>", "is neither SVG nor PNG"),
        (SVG.encode()[:-1], "is neither SVG nor PNG"),
        (b"<?xml version='1.0' encoding='klingon'?><svg/>", "is neither SVG nor PNG"),
        (PNG + bytes(256 * 1024), "has more than 256 KiB"),
    ],
    ids=["jpeg", "empty", "html", "no namespace", "cut off", "unknown encoding", "too large"],
)
def test_a_logo_that_is_none_stops_the_start(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "logo.svg"
    file.write_bytes(content)
    assert complaint(brand_logo=file).startswith(f"SCOPEGATE_BRAND_LOGO: {file} {why}")


def test_a_logo_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    why = "can't be read (No such file or directory)"
    assert complaint(brand_logo=tmp_path / "x") == f"SCOPEGATE_BRAND_LOGO: {tmp_path / 'x'} {why}"
    assert "can't be read (Is a directory)" in complaint(brand_logo=tmp_path)


async def test_templates_in_the_folder_replace_ours_and_the_others_stay(
    runtime: Runtime, tmp_path: Path
) -> None:
    (tmp_path / "base.html").write_text(example())
    (tmp_path / "error.html").write_text(
        '{% extends "base.html" %}{% block content %}<p>{{ text }}</p>{% include "help.html" %}'
        "{% endblock %}"
    )
    (tmp_path / "help.html").write_text("<p>Call {{ brand.name }}.</p>")
    (tmp_path / "README.md").write_text("{% if %}")
    async with looking(runtime, templates=tmp_path, brand_name="<i>") as client:
        page = await client.get("/sign-in")
        assert 'href="/brand/shop.css"' in page.text
        assert 'autocomplete="current-password"' in page.text, "the rest is ours"
        error = await client.get("/authorize?client_id=no-such")
        assert error.status_code == 400
        assert "<p>Call &lt;i&gt;.</p>" in error.text, "what is no markup is escaped"
        assert "This did not work" not in error.text
        assert "default-src 'none'" in error.headers["content-security-policy"]
    async with client_of(runtime) as other:
        assert "shop.css" not in (await other.get("/sign-in")).text


async def test_a_folder_as_kubernetes_mounts_it_is_read(runtime: Runtime, tmp_path: Path) -> None:
    real = tmp_path / "..2027_01_04"
    real.mkdir()
    (real / "error.html").write_text("<p>{{ text }}")
    (tmp_path / "..data").symlink_to(real)
    (tmp_path / "error.html").symlink_to(tmp_path / "..data" / "error.html")
    async with looking(runtime, templates=tmp_path) as client:
        answer = await client.get("/authorize?client_id=no-such")
        assert answer.text.startswith("<p>")


async def test_what_a_template_asks_for_and_does_not_get_is_no_page(
    runtime: Runtime, tmp_path: Path
) -> None:
    """Rather than one with a hole in it."""
    (tmp_path / "error.html").write_text("<p>{{ txet }}")
    async with looking(runtime, templates=tmp_path) as client:
        assert (await client.get("/authorize?client_id=no-such")).status_code == 500


@pytest.mark.parametrize("code", ["text.__class__.__mro__", "text.__init__.__globals__"])
async def test_a_template_shows_and_runs_nothing(
    runtime: Runtime, tmp_path: Path, code: str
) -> None:
    (tmp_path / "error.html").write_text(f"<p>{{{{ {code} }}}}")
    async with looking(runtime, templates=tmp_path) as client:
        assert (await client.get("/authorize?client_id=no-such")).status_code == 500


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("sign_in.html", b"\n{% if %}", "/sign_in.html, line 2: Expected an expression, got"),
        ("error.html", b"{% block %", "/error.html, line 1: "),
        ("error.html", b"\xff", "/error.html is not UTF-8"),
        ("error.html", b"{% extends 'bsae.html' %}", "/error.html names bsae.html, which does"),
        ("signin.html", b"<p>", "/signin.html is the template of no page"),
    ],
)
def test_a_template_that_is_wrong_stops_the_start(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert complaint(templates=tmp_path).startswith(f"SCOPEGATE_TEMPLATES: {tmp_path}{why}")


def test_a_folder_that_is_none_stops_the_start(tmp_path: Path) -> None:
    for path in (tmp_path / "x", OUR_FOLDER / "base.html"):
        assert complaint(templates=path) == f"SCOPEGATE_TEMPLATES: {path} is not a folder"


def test_the_guide_names_every_template() -> None:
    names = {each.name for each in OUR_FOLDER.iterdir()}
    assert {name for name in names if f"`{name}`" not in GUIDE.text} == set()


def test_our_own_templates_pass_the_check(runtime: Runtime) -> None:
    """As a folder that somebody has copied."""
    create_app(runtime.settings.model_copy(update={"templates": OUR_FOLDER}))
