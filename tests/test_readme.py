"""README is true: what it shows to paste works, and its tables leave nothing out."""

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from app.access.scopes import SHIPPED, put_shipped_scopes
from app.main import ROUTERS
from app.runtime import Runtime
from app.settings import Settings
from tests.commands import commands
from tests.conftest import SECRET, client_of
from tests.factories import bearer, make_user
from tests.processes import environment, serving
from tests.readme import blocks, readme_is_true_of, section, settings_table, table_in


def test_try_it_does_what_readme_says(own_database_url: str) -> None:
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    scopegate = shlex.join([sys.executable, "-m", "app"])
    with serving(**settings) as service:
        readme_is_true_of(service.url, scopegate=scopegate, environment=environment(**settings))


def test_the_settings_table_is_complete() -> None:
    assert table_in("Settings") == settings_table(), "write it anew: python -m tests.readme"
    for name in Settings.model_fields:
        assert f"`SCOPEGATE_{name.upper()}`" in section("Settings")


def test_the_commands_table_is_complete() -> None:
    table = table_in("Commands")
    assert [name for name in commands() if f"`{name}" not in table] == []


async def test_a_route_of_your_own_has_a_scope_of_its_own(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (code,) = blocks("A route of your own, with a scope of its own", "python")
    (tmp_path / "reports.py").write_text(code)
    spec = importlib.util.spec_from_file_location("reports", tmp_path / "reports.py")
    assert spec
    assert spec.loader
    reports = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reports)
    monkeypatch.setitem(SHIPPED, "read:reports", "Read reports")
    monkeypatch.setattr("app.main.ROUTERS", (*ROUTERS, reports))
    async with runtime.unit_of_work() as session:
        await (await session.connection()).run_sync(put_shipped_scopes)

    reader, other = await make_user(runtime, "read:reports"), await make_user(runtime, "read:items")
    async with client_of(runtime) as client:
        granted = await client.get("/reports", headers=await bearer(client, reader))
        refused = await client.get("/reports", headers=await bearer(client, other))
    assert (granted.status_code, granted.json()) == (200, [f"A report for {reader.username}"])
    assert refused.status_code == 403
    assert 'scope="read:reports"' in refused.headers["www-authenticate"]
