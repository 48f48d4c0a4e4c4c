"""Replicas as real processes: revocation reaches each, clocks differ, Postgres goes and comes."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.chaos.serving_process import WRONG_CLOCK
from tests.conftest import SECRET
from tests.support.factories import PASSWORD, Someone, login, status
from tests.support.faults import OwnPostgres
from tests.support.processes import SERVE, Service, command, serving

ISSUER = "https://auth.example"
ROUNDS = 100


def settings_of(database_url: str, **changes: object) -> dict[str, Any]:
    return {"database_url": database_url, "secret_keys": SECRET, "issuer": ISSUER, **changes}


def client_of(service: Service) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=service.url, timeout=60)


async def make(name: str, *scopes: str, settings: dict[str, Any]) -> Someone:
    wanted = [word for scope in scopes for word in ("--scope", scope)]
    made = await command("user", "create", name, *wanted, "--json", stdin=PASSWORD, **settings)
    return Someone(json.loads(made)["id"], name)


async def header(client: httpx2.AsyncClient, user: Someone) -> dict[str, str]:
    answer = await login(client, user)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def until_status(
    client: httpx2.AsyncClient, token: dict[str, str], code: int, path: str = "/users/me"
) -> None:
    async with asyncio.timeout(60):
        while await status(client, token, path) != code:
            await asyncio.sleep(0.001)


async def until_checks(client: httpx2.AsyncClient, checks: str) -> None:
    async with asyncio.timeout(120):
        while True:
            answer = await client.get("/health/ready")
            if answer.status_code == 200 and answer.json()["checks"] == checks:
                return
            await asyncio.sleep(0.02)


async def test_what_one_replica_revokes_the_other_refuses(own_database_url: str) -> None:
    """Every time, and for good: sessions ended, grants revoked, users disabled."""
    settings = settings_of(own_database_url)
    with serving(**settings) as one, serving(**settings) as other:
        async with client_of(one) as here, client_of(other) as there:
            for client in (here, there):
                await until_checks(client, "cached")
            alice = await make("alice", "read:items", settings=settings)
            for _ in range(ROUNDS):
                token = await header(here, alice)
                assert [await status(client, token) for client in (here, there)] == [200, 200]
                ended = await here.delete("/users/me/sessions", headers=token)
                assert ended.status_code == 204
                assert await status(here, token) == 401, "where it was ended: at once"
                await until_status(there, token, 401)
            token = await header(here, alice)
            assert await status(there, token, "/items") == 200
            await command("revoke", "alice", "read:items", **settings)
            for client in (here, there):
                await until_status(client, token, 403, "/items")
            await command("user", "disable", "alice", **settings)
            for client in (here, there):
                await until_status(client, token, 401)


async def test_a_grant_for_two_seconds_stops_its_route_after_two_seconds_on_both(
    own_database_url: str,
) -> None:
    """With no job run, no message sent and everything remembered."""
    settings = settings_of(own_database_url)
    with serving(**settings) as one, serving(**settings) as other:
        async with client_of(one) as here, client_of(other) as there:
            for client in (here, there):
                await until_checks(client, "cached")
            root = await header(here, await make("root", "admin", settings=settings))
            alice = await make("alice", "read:items", settings=settings)
            token = await header(here, alice)
            end = datetime.now(UTC) + timedelta(seconds=2)
            terms = {"expires_at": end.isoformat(), "reason": "for two seconds"}
            path = f"/users/{alice.id}/grants/read:items"
            assert (await here.put(path, json=terms, headers=root)).status_code == 204
            for client in (here, there):
                answers = [(datetime.now(UTC), 200)]
                while answers[-1][1] == 200:
                    code = await status(client, token, "/items")
                    answers.append((datetime.now(UTC), code))
                    assert code in {200, 403}
                    assert not (code == 403 and answers[-1][0] < end), "not too soon"
                    # A request that began after the end is refused: so says the one before it.
                    assert not (code == 200 and answers[-2][0] > end + timedelta(seconds=1))


async def test_replicas_whose_clocks_are_ten_minutes_apart_agree(
    own_database_url: str, tmp_path: Path
) -> None:
    """Nobody asks a machine's clock: what has expired, the database's clock decides."""
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK)
    settings = settings_of(own_database_url, access_token_lifetime=120)
    path = f"PYTHONPATH={tmp_path}"
    slow = ["env", path, "CLOCK_IS_OFF_BY=-300", *SERVE]
    fast = ["env", path, "CLOCK_IS_OFF_BY=300", *SERVE]
    told = ["env", path, "CLOCK_IS_OFF_BY=300", sys.executable, "-c"]
    probe = await asyncio.create_subprocess_exec(
        *told,
        "import time, datetime; print(datetime.datetime.now().timestamp() - time.monotonic())",
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await probe.communicate()
    assert abs(float(output) - (time.time() - time.monotonic()) - 300) < 60, "the fault is real"
    with serving(slow, **settings) as one, serving(fast, **settings) as other:
        async with client_of(one) as behind, client_of(other) as ahead:
            alice = await make("alice", "read:items", settings=settings)
            for issuing, verifying in ((behind, ahead), (ahead, behind)):
                pair = (await login(issuing, alice)).json()
                token = {"Authorization": f"Bearer {pair['access_token']}"}
                assert await status(verifying, token) == 200
                for client in (verifying, issuing):
                    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
                    answer = await client.post("/token", data=form)
                    assert answer.status_code == 200
                    pair = answer.json()
                await issuing.delete("/users/me/sessions", headers=token)
                await until_status(verifying, token, 401)


@asynccontextmanager
async def load_on(
    client: httpx2.AsyncClient, user: Someone
) -> AsyncIterator[tuple[Counter[int], dict[str, str]]]:
    """Requests that go on all the time; what they were answered."""
    statuses: Counter[int] = Counter()
    token = await header(client, user)
    over = False

    async def keep_asking(method: str, path: str, **what: Any) -> None:
        while not over:
            answer = await client.request(method, path, **what)
            statuses[answer.status_code] += 1
            assert answer.status_code in {200, 201, 503}, answer.text
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "1"
            await asyncio.sleep(0.01)

    form = {"username": user.username, "password": PASSWORD}
    tasks = [
        asyncio.create_task(keep_asking("GET", "/users/me", headers=token)),
        asyncio.create_task(keep_asking("GET", "/users/me", headers=token)),
        asyncio.create_task(keep_asking("GET", "/items", headers=token)),
        asyncio.create_task(keep_asking("POST", "/items", headers=token, json={"title": "Lamp"})),
        asyncio.create_task(keep_asking("POST", "/token", data=form)),
    ]
    yield statuses, token
    over = True
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("seconds", [0, 30], ids=["restarted", "stopped for 30 s"])
async def test_postgres_may_go_and_come_under_load(
    own_postgres: OwnPostgres, seconds: float
) -> None:
    """No 500 and no pass: 503 with Retry-After, and back by itself."""
    settings = settings_of(own_postgres.url, revocation_bound=1)
    with serving(**settings) as service:
        async with client_of(service) as client:
            alice = await make("alice", "read:items", "write:items", settings=settings)
            await until_checks(client, "cached")
            async with load_on(client, alice) as (statuses, token):
                await own_postgres.stop()
                if seconds:
                    await until_status(client, token, 503)
                    async with asyncio.timeout(seconds + 60):
                        for _ in range(int(seconds * 10)):
                            assert await status(client, token) == 503, "never a pass"
                            # The outage itself: this is how long it lasts.
                            await asyncio.sleep(0.1)
                await own_postgres.resume()
                await until_checks(client, "cached")
                assert await status(client, token) == 200
            assert statuses[200] > 0
            assert statuses[503] > 0 or not seconds
