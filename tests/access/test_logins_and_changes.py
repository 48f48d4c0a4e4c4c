"""Logins that overlap with a change of their user: neither waits, and the session ends with it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from sqlalchemy import text

from app.access import accounts
from app.db.work import Actor, Work
from app.identity.account_writes import set_password
from app.identity.session_writes import end_sessions_of
from app.runtime import Runtime
from tests.support.factories import OPERATOR, SignedIn, Someone, login, make_user
from tests.support.locks import until_waiting

Change = Callable[[Work[Actor], uuid.UUID], Awaitable[None]]


async def disable(work: Work[Actor], user_id: uuid.UUID) -> None:
    await accounts.disable(work, user_id)  # type: ignore[arg-type]


async def give_a_password(work: Work[Actor], user_id: uuid.UUID) -> None:
    await set_password(work, user_id, password_hash="$argon2id$another")


async def sign_out(work: Work[Actor], user_id: uuid.UUID) -> None:
    await end_sessions_of(work, user_id, reason="test")


async def disable_by_sql(work: Work[Actor], user_id: uuid.UUID) -> None:
    disable = text("UPDATE users SET disabled_at = now() WHERE id = :id")
    await work.db.execute(disable, {"id": user_id})


CHANGES = [disable, give_a_password, sign_out, disable_by_sql]


@asynccontextmanager
async def opening_held(runtime: Runtime, user: Someone) -> AsyncIterator[None]:
    """Keep the statement that opens a session of this user at a row that it waits for."""
    taken = text("INSERT INTO known_networks VALUES (:user, '127.0.0.1', now())")
    async with runtime.sessions() as blocking:
        await blocking.execute(taken, {"user": user.id})
        yield
        await blocking.rollback()


async def until_refused(person: SignedIn) -> None:
    """Wait until the change is heard: at once, or a moment later if it was made by SQL."""
    async with asyncio.timeout(10):
        while await person.works():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_login_whose_statement_is_under_way_when_its_user_is_changed_ends_with_the_change(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, change: Change
) -> None:
    await make_user(own_runtime, "admin")
    user = await make_user(own_runtime)
    async with opening_held(own_runtime, user):
        signing_in = asyncio.create_task(login(own_client, user))
        await until_waiting(own_runtime, "transactionid")
        # Nor does the change wait for the login: an account that keeps signing in can be disabled.
        async with asyncio.timeout(10), own_runtime.work(OPERATOR) as work:
            await change(work, user.id)
    answer = await signing_in
    assert answer.status_code == 200, "it was right when it was checked"
    person = SignedIn(own_client, answer.json())
    await until_refused(person)
    assert await person.refresh() == 400


@pytest.mark.parametrize("change", CHANGES)
async def test_a_login_waits_for_no_change_of_its_user_and_ends_with_it(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, change: Change
) -> None:
    await make_user(own_runtime, "admin")
    user = await make_user(own_runtime)
    async with own_runtime.work(OPERATOR) as work:
        await change(work, user.id)
        async with asyncio.timeout(10):
            answer = await login(own_client, user)
        assert answer.status_code == 200
        person = SignedIn(own_client, answer.json())
        assert await person.works(), "the change is not committed yet"
    await until_refused(person)
