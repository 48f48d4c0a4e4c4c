"""The log is append-only for the service's own database role, and pruned by age alone."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditEntry
from app.ops.housekeeping import BATCH, prune
from app.runtime import Runtime
from tests.support.factories import OPERATOR, make_user


async def count(runtime: Runtime) -> int:
    async with runtime.sessions() as db:
        return await db.scalar(select(func.count()).select_from(AuditEntry)) or 0


async def add_entries(runtime: Runtime, number: int, *, age: timedelta) -> None:
    async with runtime.work(OPERATOR) as work:
        at = datetime.now(UTC) - age
        work.db.add_all(AuditEntry(action="user.created", detail={}, at=at) for _ in range(number))


REWRITING = [
    "UPDATE audit_entries SET detail = '{}'",
    "UPDATE audit_entries SET at = at - interval '1 year'",
    "DELETE FROM audit_entries",
    "DELETE FROM audit_entries WHERE at < now() - interval '29 days'",
    "TRUNCATE audit_entries",
    "INSERT INTO audit_entries SELECT * FROM audit_entries "
    "ON CONFLICT (id) DO UPDATE SET detail = '{}'",
]


AS_REPLICA = "SET LOCAL session_replication_role = replica"


@pytest.mark.parametrize("statement", REWRITING)
async def test_no_statement_rewrites_or_removes_what_is_young(
    own_runtime: Runtime, statement: str
) -> None:
    await make_user(own_runtime, "read:items")
    await add_entries(own_runtime, 1, age=timedelta(days=29, hours=23))
    before = await count(own_runtime)
    async with own_runtime.sessions() as db:
        with pytest.raises(DBAPIError, match="append-only"):
            await db.execute(text(statement))
    assert await count(own_runtime) == before


@pytest.mark.parametrize("statement", REWRITING)
async def test_nor_does_one_in_a_superusers_session_that_skips_triggers(
    own_runtime: Runtime, statement: str
) -> None:
    await make_user(own_runtime, "read:items")
    await add_entries(own_runtime, 1, age=timedelta(days=29, hours=23))
    before = await count(own_runtime)
    async with own_runtime.sessions() as db:
        # Where the tests' role is no superuser, it may not even say so.
        with pytest.raises(DBAPIError, match=r"append-only|permission denied to set parameter"):
            await execute_both(db, AS_REPLICA, statement)
    assert await count(own_runtime) == before


async def execute_both(db: AsyncSession, *statements: str) -> None:
    for statement in statements:
        await db.execute(text(statement))


async def test_what_is_older_than_the_setting_is_pruned_in_batches(own_runtime: Runtime) -> None:
    await add_entries(own_runtime, BATCH + 1, age=timedelta(days=60, minutes=1))
    await add_entries(own_runtime, 1, age=timedelta(days=59))
    young = await count(own_runtime) - BATCH - 1
    seen: list[tuple[str, int]] = []
    await prune(
        own_runtime.sessions,
        now=datetime.now(UTC),
        kept=timedelta(),
        audit_kept=timedelta(days=60),
        report=lambda name, removed: seen.append((name, removed)),
    )
    assert [each for each in seen if each[0] == "audit entries"] == [
        ("audit entries", BATCH),
        ("audit entries", 1),
    ]
    assert await count(own_runtime) == young


async def test_an_entry_outlives_its_user(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    user = await make_user(own_runtime)
    before = await count(own_runtime)
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("DELETE FROM users WHERE id = :id"), {"id": user.id})
    assert await count(own_runtime) == before
