"""The database goes back to an older timeline: every replica refuses, and there is a way out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.db.embedded_server import NAME
from app.db.servers import ServerReplaced
from app.ops.metrics import Requests, render_metrics
from app.runtime import Runtime
from tests.conftest import SECRET
from tests.db.test_switchover import replica, switch, until_status
from tests.support.audit import told
from tests.support.cluster import Node, primary_and_standby
from tests.support.commands import printed, refusal, scopegate
from tests.support.factories import Someone, bearer, login, make_user
from tests.support.processes import until

pytestmark = pytest.mark.system

DISABLE = "UPDATE users SET disabled_at = now() WHERE username_key = 'alice'"
READY = "/health/ready"


@asynccontextmanager
async def gone_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, Runtime, httpx2.AsyncClient, Someone, dict[str, str]]]:
    """Yield Alice and her token. She was disabled on the newer timeline, which is lost."""
    async with primary_and_standby(folder) as (old, new, url), replica(url) as (runtime, client):
        for name, value in {"DATABASE_URL": url, "SECRET_KEYS": SECRET}.items():
            monkeypatch.setenv(f"SCOPEGATE_{name}", value)
        alice = await make_user(runtime, "read:items", username="alice")
        token = await bearer(client, alice)
        await until_status(client, token, 200)
        await switch(old, new, "the old one still takes writes")
        await new.execute(DISABLE, NAME)
        await until_status(client, token, 401)
        await until(runtime.feed.fresh)
        new.kill()
        await until_status(client, token, 503)
        await until_noted(old)
        yield url, runtime, client, alice, token


async def until_noted(node: Node) -> None:
    """Wait until a replica has written down what was lost."""
    connection = await node.connect()
    found: list[Any] = []
    while not found:
        found = await connection.fetch("SELECT * FROM lost_timelines WHERE recovered_at IS NULL")
    await connection.close()


async def test_every_replica_refuses_and_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that starts now and has never seen the newer timeline."""
    async with gone_back(tmp_path, monkeypatch) as (url, runtime, client, _, token):
        await until(lambda: isinstance(runtime.feed.failure, ServerReplaced))
        await until(lambda: not runtime.feed.writes())
        ready = await client.get(READY)
        assert ready.status_code == 503
        assert "run scopegate recover" in ready.json()["detail"]
        assert b"scopegate_database_went_back 1.0" in render_metrics(runtime, Requests())
        assert (await client.get("/items", headers=token)).status_code == 503
        with pytest.raises(ServerReplaced, match="do not just restart"):
            async with replica(url):
                pass
        doctor = await scopegate("doctor")
        assert doctor.exit_code == 1
        assert "run scopegate recover" in doctor.stdout
        assert "newer timeline" in await refusal("user", "list")


async def test_recovery_ends_all_sessions_and_lets_every_replica_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gone_back(tmp_path, monkeypatch) as (url, runtime, client, alice, token):
        found = await printed("recover", "--yes")
        assert found["users"] == 1
        await until_status(client, token, 401)
        await until_status(client, {}, 200, path=READY)
        assert (await login(client, alice)).status_code == 200, "to be disabled once more"
        async with replica(url) as (_, later):
            assert (await later.get("/items", headers=token)).status_code == 401
        async with runtime.sessions() as db:
            ((_, _, detail),) = await told(db, "database.recovered")
        assert (detail["timeline"], detail["users"]) == (found["timeline"], 1)
        assert "No process has seen" in await refusal("recover", "--yes")


async def test_a_replaced_server_beside_the_newest_is_left_alone(tmp_path: Path) -> None:
    """It is noted there that it was replaced, but the replicas serve from the newest."""
    async with primary_and_standby(tmp_path) as (old, new, url), replica(url) as (runtime, client):
        await switch(old, new, "the old one still takes writes")
        await until_status(client, {}, 200, path=READY)
        await until_noted(old)
        await until(runtime.feed.fresh)
        async with replica(url) as (_, later):
            assert (await later.get(READY)).status_code == 200
        connection = await new.connect()
        assert await connection.fetchval("SELECT count(*) FROM lost_timelines") == 0
        await connection.close()
