"""`scopegate client …`: applications that sign people in."""

from pathlib import Path

import pytest

from app.runtime import Runtime
from tests.conftest import SECRET
from tests.support.commands import Environment, printed, refusal, succeed
from tests.support.documents import walking
from tests.support.factories import PASSWORD
from tests.support.postgres_programs import on_path
from tests.support.processes import environment

URI = "https://app.example/callback"


async def test_clients_are_made_shown_listed_changed_and_deleted(
    environment: Environment, own_runtime: Runtime
) -> None:
    words = ("client", "create", "Orders", "--client-id", "orders", "--redirect-uri", URI)
    made = await printed(*words, "--scope", "read:items", "--scope", "write:items")
    assert made["scopes"] == ["read:items", "write:items"]
    assert made["redirect_uris"] == [URI]
    assert "client_secret" not in made
    assert await printed("client", "show", "orders") == made
    ships = ["scopegate-console", "scopegate-docs"]
    listed = await printed("client", "list")
    assert listed[0] == made
    assert [each["client_id"] for each in listed[1:]] == ships
    assert "orders" in await succeed("client", "list")
    words = ("client", "change", "orders", "--name", "Invoices", "--scope", "read:items")
    await succeed(*words, "--trusted", "--refresh-grace", "20")
    changed = await printed("client", "show", "orders")
    expected = {"name": "Invoices", "scopes": ["read:items"], "trusted": True, "refresh_grace": 20}
    assert changed == {**made, **expected}
    await succeed("client", "change", "orders", "--not-trusted")
    assert not (await printed("client", "show", "orders"))["trusted"]
    await succeed("client", "delete", "orders", "--yes")
    assert [each["client_id"] for each in await printed("client", "list")] == ships
    for command in (("show",), ("change",), ("delete", "--yes")):
        assert "no such client" in await refusal("client", command[0], "orders", *command[1:])


async def test_the_secret_of_a_confidential_client_is_printed_once(
    environment: Environment, own_runtime: Runtime
) -> None:
    words = ("client", "create", "Back end", "--client-id", "back", "--redirect-uri", URI)
    made = await printed(*words, "--confidential")
    assert made["client_secret"].startswith("sgs_")
    assert made["scopes"] is None
    assert made["client_secret"] not in await succeed("client", "show", "back")


async def test_what_is_wrong_is_said(environment: Environment, own_runtime: Runtime) -> None:
    assert "at least one redirect URI" in await refusal("client", "create", "Orders")
    answer = await refusal("client", "create", "Orders", "--redirect-uri", "http://app.example/")
    assert "https" in answer


@pytest.mark.system
def test_the_guides_to_other_applications_are_true(own_database_url: str, tmp_path: Path) -> None:
    env = on_path(environment(database_url=own_database_url, secret_keys=SECRET))
    guides = (
        "docs/how-to/add-a-web-app.md",
        "docs/how-to/add-a-command-line-tool.md",
        "docs/how-to/add-a-mobile-app.md",
        "docs/how-to/leave-the-password-grant.md",
        "docs/how-to/mcp.md",
    )
    (tmp_path / "alice-password").write_text(PASSWORD)
    with walking(*guides, cwd=tmp_path, env=env, replacing={}) as walk:
        assert "client_secret sgs_" in walk.paste("Register it")
        assert "client_id orders-cli" in walk.paste("Register it")
        assert "client_id orders-app-mobile" in walk.paste("Register it")
        assert "Changed orders-app-mobile" in walk.paste("Sign in")
        walk.paste("")
        assert "client_secret" in walk.paste("Say what there is")
        assert "client_id assistant" in walk.paste("Register the programs")


@pytest.mark.system
def test_the_guide_to_a_single_page_app_is_true(own_database_url: str, tmp_path: Path) -> None:
    env = on_path(environment(database_url=own_database_url, secret_keys=SECRET))
    guide = "docs/how-to/add-a-single-page-app.md"
    with walking(guide, cwd=tmp_path, env=env, replacing={}) as walk:
        assert "client_id orders-app" in walk.paste("Register it")
        assert "read:items" in walk.paste("Change or remove it")
        assert "Deleted orders-app" in walk.paste("Change or remove it")
