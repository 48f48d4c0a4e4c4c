"""The rows of sessions: how they end, how many there may be, and what a list of them reads."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, select

from app.db.changes import Change
from app.identity.account_writes import create_service
from app.identity.models import Session, User
from app.identity.session_writes import ENDED_AT_ONCE
from app.identity.sessions import live_sessions
from app.ops.housekeeping import BATCH
from app.runtime import Runtime
from tests.conftest import client_of, following, settings_for
from tests.support.audit import told
from tests.support.factories import OPERATOR, login, make_user, status
from tests.support.hearing import Heard
from tests.support.housekeeping import house
from tests.support.many_sessions import (
    EXPIRED,
    OPEN_EXPIRED,
    OPEN_MANY,
    bearer_of,
    count_ended,
    live,
    open_many,
    open_many_that_expired,
    sign_out,
)
from tests.support.statements import execute


@contextmanager
def run_again(runtime: Runtime) -> Iterator[list[tuple[str, Any]]]:
    """What is run meanwhile, with its values."""
    found: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        found.append((statement, values))

    event.listen(runtime.engine.sync_engine, "before_cursor_execute", note)
    yield found
    event.remove(runtime.engine.sync_engine, "before_cursor_execute", note)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from nodes(each)


async def test_a_login_of_the_release_before_counts_also_after_a_sign_out(
    own_runtime: Runtime,
) -> None:
    """Its INSERT does not know of epochs."""
    user = await make_user(own_runtime)
    await sign_out(own_runtime, user.id)
    await execute(
        own_runtime,
        "INSERT INTO sessions (id, user_id, scopes, expires_at, idle_expires_at, refresh_key) "
        "VALUES (gen_random_uuid(), :user, '{}', now() + '1 day', now() + '1 day', '')",
        user=user.id,
    )
    async with own_runtime.sessions() as db:
        assert len(await live(db, own_runtime, user.id)) == 1
    await sign_out(own_runtime, user.id)
    async with own_runtime.sessions() as db:
        assert await live(db, own_runtime, user.id) == []


@pytest.mark.parametrize("interrupted", [False, True])
async def test_housekeeping_writes_the_ends_and_nobody_hears_of_it(
    own_runtime: Runtime, interrupted: bool
) -> None:
    user, other = await make_user(own_runtime), await make_user(own_runtime)
    for each in (user, other):
        await open_many(own_runtime, each.id, ENDED_AT_ONCE + BATCH + 500)
        await open_many_that_expired(own_runtime, each.id)
    heard = Heard(own_runtime)
    for statement in ("disabled_at = now()", "session_epoch = session_epoch + 1"):
        await execute(own_runtime, f"UPDATE users SET {statement} WHERE id = :user", user=user.id)
    assert await heard.up_to_now() == [Change("user", user.id)] * 2

    class Interrupted(Exception):
        pass

    def report(_: str, cleared: int) -> None:
        if interrupted and cleared:
            raise Interrupted

    now = own_runtime.now()
    try:
        assert await house(own_runtime.sessions, now=now, report=report)
    except Interrupted:
        assert BATCH <= await count_ended(own_runtime, user.id) < ENDED_AT_ONCE + BATCH + 500
        assert await house(own_runtime.sessions, now=now)
    assert await heard.up_to_now() == []
    assert await count_ended(own_runtime, user.id) == ENDED_AT_ONCE + BATCH + 500
    assert await count_ended(own_runtime, other.id) == 0
    async with own_runtime.sessions() as db:
        behind = select(User.id).where(User.ended_epoch < User.session_epoch)
        assert (await db.scalars(behind)).all() == []


async def test_rows_that_are_ended_in_part_end_whole_and_expired_ones_are_left_alone(
    own_runtime: Runtime,
) -> None:
    user = await make_user(own_runtime)
    await open_many(own_runtime, user.id, 10)
    await open_many_that_expired(own_runtime, user.id)
    await execute(
        own_runtime,
        "UPDATE sessions SET ended_at = now(), end_reason = 'before' WHERE id IN "
        "(SELECT id FROM sessions WHERE expires_at > now() LIMIT 4)",
    )
    heard = Heard(own_runtime)
    await heard.up_to_now()  # of what was done before
    for _ in range(2):
        await sign_out(own_runtime, user.id)
    assert {*await heard.up_to_now()} == {Change("user", user.id)}
    async with own_runtime.sessions() as db:
        reasons = select(Session.end_reason, func.count()).group_by(Session.end_reason)
        assert {row[0]: row[1] for row in await db.execute(reasons)} == {
            "before": 4,
            "ended by an operator": 6,
            None: EXPIRED,
        }
        details = [detail["sessions"] for _, _, detail in await told(db, "session.ended")]
        assert details == [6], "the second time there was none"


async def test_a_person_has_so_many_live_sessions_and_no_more(own_database_url: str) -> None:
    settings = settings_for(own_database_url, max_sessions=3)
    async with (
        Runtime.open(settings) as runtime,
        following(runtime),
        client_of(runtime) as client,
    ):
        user = await make_user(runtime)
        pairs = [(await login(client, user)).json() for _ in range(5)]
        works = [await status(client, bearer_of(pair)) == 200 for pair in pairs]
        assert works == [False, False, True, True, True]
        async with runtime.sessions() as db:
            entries = await told(db, "session.ended")
        assert [(by, of, each["reason"]) for by, of, each in entries] == [
            (user.id, user.id, "too many sessions")
        ] * 2
        # At once, none counts the others; the next one makes up for it.
        await asyncio.gather(*(login(client, user) for _ in range(4)))
        assert (await login(client, user)).status_code == 200
        async with runtime.sessions() as db:
            assert len(await live(db, runtime, user.id)) == 3

        async with runtime.work(OPERATOR) as work:
            _, secret = await create_service(work, username="robot")
        form = {"grant_type": "client_credentials", "client_id": "robot"}
        for _ in range(5):
            answer = await client.post("/token", data={**form, "client_secret": secret.value})
            assert answer.status_code == 200
        mine = await client.get("/users/me/sessions", headers=bearer_of(answer.json()))
        assert len(mine.json()["items"]) == 5


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("history", ["ended", "expired", "of an earlier epoch"])
async def test_a_list_of_sessions_reads_live_rows_only(
    own_runtime: Runtime, statistics: bool, history: str
) -> None:
    user = await make_user(own_runtime)
    past = {
        "ended": OPEN_MANY.replace("epoch,", "ended_at, epoch,", 1).replace(
            "session_epoch,", "now(), session_epoch,", 1
        ),
        "expired": OPEN_EXPIRED,
        "of an earlier epoch": OPEN_MANY,
    }[history]
    await execute(own_runtime, past, number=5000, user=user.id)
    if history == "of an earlier epoch":
        await execute(own_runtime, "UPDATE users SET session_epoch = session_epoch + 1")
    await open_many(own_runtime, user.id, 50)
    if statistics:
        await execute(own_runtime, "ANALYZE")
    async with own_runtime.sessions() as db:
        listed = await live(db, own_runtime, user.id, limit=20)
        after = listed[-1].id
        with run_again(own_runtime) as explained:
            rest = await live_sessions(db, user.id, after=after, limit=100, now=own_runtime.now())
    assert len({each.id for each in (*listed, *rest)}) == 50
    [(statement, values)] = explained
    async with own_runtime.engine.connect() as connection:
        plan = (
            await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        ).scalar_one()
    touched = sum(
        node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
        for node in nodes(plan[0]["Plan"])
        if node.get("Relation Name") == "sessions"
    )
    assert touched < 200, plan


async def test_a_page_after_a_session_whose_row_has_gone_leaves_none_out(
    own_runtime: Runtime,
) -> None:
    user = await make_user(own_runtime)
    await open_many(own_runtime, user.id, 5)
    async with own_runtime.sessions() as db:
        first = await live(db, own_runtime, user.id, limit=2)
    await execute(own_runtime, "DELETE FROM sessions WHERE id = :id", id=first[-1].id)
    async with own_runtime.sessions() as db:
        rest = await live_sessions(db, user.id, after=first[-1].id, limit=9, now=own_runtime.now())
    assert len({each.id for each in rest} - {first[0].id}) == 3
