"""Health, and what happens when the database can't be asked."""

import asyncio

import httpx2
from sqlalchemy import text

from app.identity.hash_queue import ACCOUNT_SHARE, Source
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support import databases
from tests.support.factories import PASSWORD, bearer, login, make_user, status
from tests.support.locks import hashing_held
from tests.support.processes import until


async def test_live_asks_nothing(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}


async def pretend_revision(runtime: Runtime, revision: str) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))


async def test_ready_knows_the_schema_revision(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    assert (await own_client.get("/health/ready")).json() == {"status": "ready", "checks": "cached"}
    await pretend_revision(own_runtime, "9999")
    assert (await own_client.get("/health/ready")).status_code == 200, "a later version's"
    await pretend_revision(own_runtime, "0001")
    answer = await own_client.get("/health/ready")
    assert answer.status_code == 503
    assert "scopegate migrate" in answer.json()["detail"]


async def test_without_a_database_every_answer_is_503_and_never_a_pass(
    own_database_url: str, server_url: str
) -> None:
    """Whatever is remembered; and it comes back by itself."""
    settings = settings_for(own_database_url, database_pool_timeout=2, revocation_bound=2)
    async with Runtime.open(settings) as runtime, following(runtime), client_of(runtime) as client:
        user = await make_user(runtime, "read:items")
        headers = await bearer(client, user)
        assert await status(client, headers) == 200
        async with databases.closed(server_url, str(runtime.engine.url.database)):
            await until(lambda: not runtime.feed.fresh())
            for answer in (
                await client.get("/users/me", headers=headers),
                await client.get("/items", headers=headers),
                await client.get("/forward-auth", headers=headers),
                await client.get("/health/ready"),
                await login(client, user),
            ):
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "1"
            answer = await login(client, user)
            assert answer.json()["error"] == "temporarily_unavailable"
            assert answer.headers["cache-control"] == "no-store"
            assert (await client.get("/health/live")).status_code == 200
            keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
            assert len(keys) == 1, "other services go on verifying"
        await until(runtime.feed.fresh)
        assert await status(client, headers) == 200
        assert (await login(client, user)).status_code == 200


async def test_a_killed_connection_is_503_or_replaced(own_runtime: Runtime) -> None:
    async with client_of(own_runtime) as client:
        headers = await bearer(client, await make_user(own_runtime, "read:items"))
        async with own_runtime.engine.connect() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        assert (await client.get("/items", headers=headers)).status_code == 200


async def test_a_full_hashing_queue_is_503_with_retry_after(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime)
    source = Source("logins", "127.0.0.1", user.username)
    async with hashing_held(runtime) as held:
        queued = [
            asyncio.create_task(runtime.hasher.verify(PASSWORD, None, source=source))
            for _ in range(runtime.settings.hash_queue // ACCOUNT_SHARE)
        ]
        await held.until_waiting(len(queued))
        answer = await login(client, user)
    await asyncio.gather(*queued)
    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert answer.headers["retry-after"] == "1"
