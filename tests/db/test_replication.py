"""Logical replication: what a real subscription applies is heard beside the subscriber."""

import asyncio
from pathlib import Path

import asyncpg
import httpx2
import pytest
from sqlalchemy import text

from app.db.changes import EVERYTHING, Change
from app.identity.account_writes import disable_user
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support.cluster import publisher_and_subscriber
from tests.support.factories import OPERATOR, Someone, bearer, make_user, status
from tests.support.hearing import Heard
from tests.support.processes import PATIENCE, until

pytestmark = pytest.mark.system


async def test_what_a_subscription_applies_is_heard(tmp_path: Path) -> None:
    async with (
        publisher_and_subscriber(tmp_path) as (publisher_url, subscriber_url),
        Runtime.open(settings_for(publisher_url)) as publisher,
    ):
        people = [await make_user(publisher, "read:items") for _ in range(5)]
        # With them, the signing key arrives. Else the second runtime would make its own.
        await until_applied(subscriber_url, people)
        async with Runtime.open(settings_for(subscriber_url)) as replica, following(replica):
            await tokens_stop(publisher, replica, people)
            await all_kinds_are_heard(publisher, replica)


async def tokens_stop(publisher: Runtime, replica: Runtime, people: list[Someone]) -> None:
    """Grants revoked, users disabled and signed out, sessions ended and deleted: all stop there."""
    async with client_of(publisher) as here, client_of(replica) as there:
        tokens = [await bearer(here, each) for each in people]
        for token in tokens:
            await until_status(there, token, 200)
        misses = replica.principals.counts.misses
        assert [await status(there, token, "/items") for token in tokens] == [200] * 5
        assert replica.principals.counts.misses == misses, "all are remembered"

        revoked, disabled, signed_out, ended, deleted = people
        await execute(publisher, "DELETE FROM grants WHERE user_id = :id", revoked)
        async with publisher.work(OPERATOR) as work:
            await disable_user(work, disabled.id)
        assert (await here.delete("/users/me/sessions", headers=tokens[2])).status_code == 204
        await execute(publisher, "UPDATE sessions SET ended_at = now() WHERE user_id = :id", ended)
        await execute(publisher, "DELETE FROM sessions WHERE user_id = :id", deleted)
        for token, code in zip(tokens, (403, 401, 401, 401, 401), strict=True):
            await until_status(there, token, code)
        # Its session is of the subscriber's epoch too.
        await until_status(there, await bearer(here, signed_out), 200)


async def all_kinds_are_heard(publisher: Runtime, replica: Runtime) -> None:
    heard = Heard(replica)
    for statement, change in (
        ("UPDATE scopes SET description = 'x' WHERE name = 'read:items'", Change("scopes")),
        ("UPDATE signing_keys SET retires_at = now()", Change("keys")),
        ("TRUNCATE sessions CASCADE", EVERYTHING),
    ):
        await execute(publisher, statement)
        await until(lambda change=change: change in heard)  # type: ignore[misc]


async def execute(runtime: Runtime, statement: str, user: Someone | None = None) -> None:
    async with runtime.engine.begin() as connection:
        await connection.execute(text(statement), {"id": user.id} if user else {})


async def until_applied(subscriber_url: str, people: list[Someone]) -> None:
    """Return when the subscriber has these people, and so all that was committed before them."""
    connection = await asyncpg.connect(subscriber_url)
    wanted = {each.id for each in people}
    async with asyncio.timeout(PATIENCE):
        while not wanted <= {row["id"] for row in await connection.fetch("SELECT id FROM users")}:
            await asyncio.sleep(0.05)
    await connection.close()


async def until_status(client: httpx2.AsyncClient, token: dict[str, str], code: int) -> None:
    path = "/items" if code == 403 else "/users/me"
    async with asyncio.timeout(PATIENCE):
        while await status(client, token, path) != code:
            await asyncio.sleep(0.01)
