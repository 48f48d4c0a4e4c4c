"""Behind a real PgBouncer that pools transactions: everything works, and nothing is another's."""

import asyncio
import os
import shutil
import sys
from collections import Counter
from contextlib import AsyncExitStack

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db.engine import STATEMENT_LOST, create_engine, sqlstate_of
from app.db.url import normalise_url
from app.runtime import Runtime
from tests.conftest import SECRET, client_of, following, settings_for
from tests.support.factories import Someone, bearer, login, make_user
from tests.support.faults import PGBOUNCER, pgbouncer_before, prepared_by_pgbouncer
from tests.support.processes import command, environment

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not shutil.which(PGBOUNCER) and not os.environ.get("CI"), reason="no PgBouncer"
    ),
]
CLIENTS = 8
ROUNDS = 5


async def live_through(
    here: httpx2.AsyncClient, there: httpx2.AsyncClient, alice: Someone, root: dict[str, str]
) -> None:
    """All that befalls one user, at one replica or the other."""
    grant = f"/users/{alice.id}/grants/read:items"
    for _ in range(ROUNDS):
        answer = await login(here, alice, password="wrong")
        assert answer.status_code == 400, answer.text
        answer = await login(here, alice)
        assert answer.status_code == 200, answer.text
        pair = answer.json()
        form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        pair = (await there.post("/token", data=form)).json()
        token = {"Authorization": f"Bearer {pair['access_token']}"}
        made = await here.post("/items", headers=token, json={"title": alice.username})
        assert made.status_code == 201, made.text
        for client in (here, there):
            mine = (await client.get(f"/items/{made.json()['id']}", headers=token)).json()
            assert mine["title"] == alice.username
        assert (await there.delete(grant, headers=root)).status_code == 204
        for client in (here, there):
            async with asyncio.timeout(60):
                while (await client.get("/items", headers=token)).status_code != 403:
                    await asyncio.sleep(0.005)
        assert (await here.put(grant, headers=root)).status_code == 204
        assert (await there.delete("/users/me/sessions", headers=token)).status_code == 204


@pytest.mark.parametrize("prepared", prepared_by_pgbouncer())
async def test_two_replicas_share_two_connections_from_the_migration_on(
    empty_database_url: str, prepared: int | None
) -> None:
    async with pgbouncer_before(empty_database_url, connections=2, prepared=prepared) as pooled:
        urls = {"database_url": pooled, "listen_database_url": empty_database_url}
        await command("migrate", secret_keys=SECRET, **urls)
        settings = settings_for(pooled, listen_database_url=empty_database_url)
        async with (
            Runtime.open(settings) as one,
            Runtime.open(settings) as other,
            following(one),
            following(other),
            client_of(one) as here,
            client_of(other) as there,
        ):
            root = await bearer(here, await make_user(one, "admin"))
            users = [await make_user(one, "read:items", "write:items") for _ in range(CLIENTS)]
            await asyncio.gather(*(live_through(here, there, user, root) for user in users))
            for runtime in (one, other):
                assert runtime.feed.fresh()
                assert runtime.principals.counts.hits
                assert not runtime.principals.counts.bypassed
            async with one.engine.connect() as connection:
                found = await connection.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND application_name = 'scopegate'"
                    )
                )
                assert found.scalar_one() <= 2, "all that goes through the pool"


async def test_a_pooler_that_nobody_told_of_gives_no_500_and_nobody_elses_answer(
    own_database_url: str,
) -> None:
    """Where one is not told of and does not follow prepared statements, 503 is all one gets."""
    prepared = prepared_by_pgbouncer()[0]
    async with pgbouncer_before(own_database_url, connections=3, prepared=prepared) as pooled:
        statuses: Counter[int] = Counter()
        async with Runtime.open(settings_for(own_database_url)) as direct:
            users = [await make_user(direct) for _ in range(CLIENTS)]
            async with client_of(direct) as client:
                tokens = [await bearer(client, user) for user in users]
        async with (
            Runtime.open(settings_for(pooled)) as one,
            Runtime.open(settings_for(pooled)) as other,
            client_of(one) as here,
            client_of(other) as there,
        ):

            async def ask(client: httpx2.AsyncClient, user: Someone, token: dict[str, str]) -> None:
                for _ in range(ROUNDS):
                    answer = await client.get("/users/me", headers=token)
                    statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        assert answer.json()["username"] == user.username

            # As one user's request follows another's, the pooler gives it another connection.
            await asyncio.gather(
                *(
                    ask(client, user, token)
                    for user, token in zip(users, tokens, strict=True)
                    for client in (here, there)
                )
            )
        assert statuses.keys() <= {200, 503}
        assert statuses[503], "the fault is real"


async def test_no_process_executes_what_another_prepared(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a pooler was not told of, and hands one the server on which the other prepared."""
    prepared = prepared_by_pgbouncer()[0]
    async with pgbouncer_before(own_database_url, connections=2, prepared=prepared) as pooled:
        engines = []
        async with AsyncExitStack() as stack:
            for _ in range(3):
                # As in a process of its own, where asyncpg begins to count anew.
                monkeypatch.setattr("asyncpg.connection._uid", 0)
                engines.append(create_engine(normalise_url(pooled), settings_for(pooled)))
                stack.push_async_callback(engines[-1].dispose)
                async with engines[-1].connect():
                    pass
            one, other, third = [
                await stack.enter_async_context(each.connect()) for each in engines
            ]
            assert await one.scalar(text("SELECT 'one'")) == "one"
            assert await other.scalar(text("SELECT 'other'")) == "other"
            await other.commit()
            await one.commit()
            # It gets the connection that was given back last: only the other's is left for one.
            await third.scalar(text("SELECT 'third'"))
            with pytest.raises(DBAPIError) as caught:
                await one.scalar(text("SELECT 'one'"))
            assert sqlstate_of(caught.value) in STATEMENT_LOST


async def test_a_command_behind_a_pooler_that_nobody_told_of_says_what_to_set(
    own_database_url: str,
) -> None:
    prepared = prepared_by_pgbouncer()[0]
    async with pgbouncer_before(own_database_url, prepared=prepared, lifetime=0) as pooled:
        # Its second look asks what its first one has prepared, elsewhere.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "audit", "--follow"),
            env=environment(database_url=pooled, secret_keys=SECRET),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        said = (await process.communicate())[1].decode()
        assert process.returncode == 1
        assert said.count("\n") == 1
        assert "set SCOPEGATE_LISTEN_DATABASE_URL" in said
