"""The guide on tokens for scripts does what it says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import SECRET
from tests.support.documents import SERVED_AT, walking
from tests.support.factories import PASSWORD
from tests.support.processes import command, environment, serving

pytestmark = pytest.mark.system


async def test_a_script_gets_a_token_and_uses_it(own_database_url: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    await command("user", "create", "alice", "--scope", "read:items", stdin=PASSWORD, **settings)
    ends = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with serving(**settings) as service:
        form = {"username": "alice", "password": PASSWORD}
        signed_in = httpx2.post(f"{service.url}/token", data=form).json()
        replacing = {SERVED_AT: service.url, "2027-07-01T00:00:00Z": ends}
        guide = "docs/how-to/give-a-script-a-token.md"
        env = environment(**settings)
        with walking(guide, cwd=tmp_path, env=env, replacing=replacing) as walk:
            walk.given(ACCESS_TOKEN=signed_in["access_token"])
            made = json.loads(walk.paste("Make the token"))
            assert made["name"] == "nightly backup"
            (tmp_path / "token").write_text(f"{made['token']}\n")
            assert json.loads(walk.paste("Use it")) == {"items": [], "next": None}
