"""The throttle: what it charges, whom it makes wait and for how long, and whom never."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text

from app.audit.models import AuditEntry
from app.db.work import Actor, Origin
from app.identity import throttle
from app.identity.candidates import find_candidates
from app.identity.models import FailureBudget, KnownNetwork
from app.identity.throttle import (
    ACCOUNT,
    ACCOUNT_AND_ADDRESS,
    ADDRESS,
    LOGIN,
    MAX_WAIT,
    AttemptSource,
    FailureLimit,
    Throttled,
)
from app.runtime import Runtime
from tests.support.clock import MovableClock, StandingClock
from tests.support.factories import OPERATOR, make_user
from tests.support.throttle import (
    HOME,
    actions,
    budgets,
    fail,
    numbered,
    remember,
    sign_in,
    wait_of,
)


@pytest.fixture
def clock() -> MovableClock:
    return StandingClock()


@pytest.mark.parametrize("limit", LOGIN, ids=lambda limit: limit.counted)
async def test_each_limit_lets_its_burst_through_then_one_every_interval(
    runtime: Runtime, clock: MovableClock, limit: FailureLimit
) -> None:
    def attempt(number: int) -> dict[str, Any]:
        return {
            "name": "alice" if limit is not ADDRESS else f"user-{number}",
            "address": HOME if limit is not ACCOUNT else numbered(number),
        }

    for number in range(limit.burst):
        await fail(runtime, **attempt(number))
    for number in range(2):
        assert await wait_of(runtime, **attempt(1000)) == limit.interval
        clock.move(seconds=limit.interval.total_seconds() - 1)
        assert await wait_of(runtime, **attempt(1000)) == timedelta(seconds=1)
        clock.move(seconds=1)
        await fail(runtime, **attempt(1000 + number))
    clock.move(seconds=(limit.interval + limit.slack).total_seconds())
    for number in range(limit.burst):
        await fail(runtime, **attempt(2000 + number))
    assert await wait_of(runtime, **attempt(1000)) == limit.interval


async def test_the_wait_is_capped_and_what_was_announced_is_true(
    runtime: Runtime, clock: MovableClock
) -> None:
    async with runtime.work(OPERATOR) as work:
        source = AttemptSource("alice", None, HOME)
        attempt = runtime.throttle.attempt(LOGIN, source, now=work.now)
        for _ in range(500):
            await throttle.charge(work.db, attempt, now=work.now)
    wait = await wait_of(runtime)
    assert wait == MAX_WAIT
    clock.move(seconds=wait.total_seconds() - 0.001)
    assert await wait_of(runtime) == timedelta(seconds=1)
    clock.move(seconds=0.001)
    assert await wait_of(runtime) == timedelta()


async def test_addresses_of_one_64_are_one_and_of_two_are_two(runtime: Runtime) -> None:
    for number in range(ACCOUNT_AND_ADDRESS.burst):
        await fail(runtime, "alice", address=f"2001:db8:0:1::{number}")
    assert await wait_of(runtime, address="2001:db8:0:1:ffff::1") > timedelta()
    assert await wait_of(runtime, address="2001:db8:0:2::1") == timedelta()


async def test_somebody_known_in_a_64_is_known_in_all_of_it(runtime: Runtime) -> None:
    alice = await make_user(runtime)
    async with runtime.work(Actor(origin=Origin(address="2001:db8:0:1::1"))) as work:
        await remember(work, alice.id)
    for number in range(ACCOUNT.burst):
        await fail(runtime, alice.username, address=numbered(number))
    await fail(runtime, alice.username, address="2001:db8:0:1::2", user=alice)
    with pytest.raises(Throttled):
        await fail(runtime, alice.username, address="2001:db8:0:2::1", user=alice)
    bob = await make_user(runtime)
    with pytest.raises(Throttled):
        await fail(runtime, alice.username, address="2001:db8:0:1::2", user=bob)


async def test_a_login_from_a_known_address_waits_for_no_other_and_is_remembered_day_by_day(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    alice = await make_user(own_runtime)
    async with own_runtime.work(Actor(origin=Origin(address=HOME))) as work:
        await remember(work, alice.id)
    first = clock()
    async with own_runtime.sessions() as held:
        await held.execute(select(KnownNetwork).with_for_update())
        async with own_runtime.work(Actor(origin=Origin(address=HOME))) as work:
            await work.db.execute(text("SET LOCAL lock_timeout = '1s'"))
            await remember(work, alice.id)
    clock.move(hours=25)
    for moment in (first, clock()):
        async with own_runtime.work(Actor(origin=Origin(address=HOME))) as work:
            assert await work.db.scalar(select(KnownNetwork.signed_in_at)) == moment
            await remember(work, alice.id)


async def test_a_known_address_does_not_save_whoever_guesses_there(runtime: Runtime) -> None:
    alice = await make_user(runtime)
    assert await sign_in(runtime, alice.username, address=HOME) == "in"
    for _ in range(ACCOUNT_AND_ADDRESS.burst):
        await fail(runtime, alice.username, address=HOME, user=alice)
    assert await sign_in(runtime, alice.username, address=HOME) == "throttled"


async def test_a_success_makes_no_budget_whole(runtime: Runtime) -> None:
    alice = await make_user(runtime)
    for _ in range(ACCOUNT_AND_ADDRESS.burst - 1):
        await fail(runtime, alice.username, address=HOME, user=alice)
    async with runtime.sessions() as db:
        before = await budgets(db)
    assert await sign_in(runtime, alice.username, address=HOME) == "in"
    async with runtime.sessions() as db:
        assert await budgets(db) == before


@pytest.mark.parametrize("spelling", ["ALICE", "Ａlice", "alice"])
async def test_all_spellings_of_a_name_are_one_account(runtime: Runtime, spelling: str) -> None:
    for _ in range(ACCOUNT_AND_ADDRESS.burst):
        await fail(runtime, "Alice", address=HOME)
    assert await wait_of(runtime, name=spelling) > timedelta()


async def test_no_name_no_address_and_no_password_is_in_the_table(runtime: Runtime) -> None:
    typed = "my password, typed as a name"
    await fail(runtime, typed, address=HOME)
    async with runtime.reading() as db:
        keys = list(await db.scalars(select(FailureBudget.key)))
    # Nor a digest that whoever has a list of names could make.
    again = throttle.Throttle(["another secret"], runtime.database.connect)
    other = again.attempt(LOGIN, AttemptSource(typed, None, HOME), now=runtime.now())
    assert len(keys) == len(LOGIN)
    assert {len(key) for key in keys} == {32}
    assert not set(keys) & set(other.budgets.values())


@pytest.mark.long
async def test_the_audit_log_stays_bounded_under_attack(runtime: Runtime) -> None:
    alice = await make_user(runtime)
    outcomes = Counter(
        [
            await sign_in(runtime, alice.username, "wrong", address=HOME)
            for _ in range(ACCOUNT_AND_ADDRESS.burst)
        ]
    )
    assert outcomes == {"refused": ACCOUNT_AND_ADDRESS.burst}
    before = await actions(runtime)
    assert before["login.failed"] == ACCOUNT_AND_ADDRESS.burst
    assert before["login.throttled"] == 1
    async with runtime.sessions() as db:
        told = select(AuditEntry).where(AuditEntry.action == "login.throttled")
        entry = (await db.scalars(told)).one()
        charged = await budgets(db)
    assert (entry.subject, entry.address) == (alice.id, HOME)
    assert entry.detail == {"reached": ["account and address"]}
    for _ in range(1000):
        assert await sign_in(runtime, alice.username, "wrong", address=HOME) == "throttled"
    assert await actions(runtime) == before
    async with runtime.sessions() as db:
        assert await budgets(db) == charged, "what is refused is not charged"


async def test_the_look_before_a_login_uses_indexes_however_much_there_is(
    runtime: Runtime,
) -> None:
    alice = await make_user(runtime)
    async with runtime.sessions() as db:
        connection = await db.connection()
        await connection.exec_driver_sql(
            f"INSERT INTO known_networks SELECT '{alice.id}', 'net-' || n, now() "
            "FROM generate_series(1, 5000) n"
        )
        await connection.exec_driver_sql(
            "INSERT INTO failure_budgets SELECT sha256(n::text::bytea), now() "
            "FROM generate_series(1, 5000) n"
        )
        await connection.exec_driver_sql(
            "INSERT INTO users (id, username, username_key) "
            "SELECT gen_random_uuid(), n, n FROM generate_series(1, 5000) n"
        )
        await connection.exec_driver_sql(
            "INSERT INTO client_secrets (id, user_id, digest) "
            "SELECT gen_random_uuid(), id, sha256(id::text::bytea) FROM users"
        )
        await connection.exec_driver_sql(
            "ANALYZE users, known_networks, failure_budgets, client_secrets"
        )
        sent: list[tuple[str, Any]] = []

        def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            if "failure_budgets" in statement:
                sent.append((statement, parameters))

        event.listen(runtime.engine.sync_engine, "before_cursor_execute", note)
        source = AttemptSource("alice", None, HOME)
        attempt = runtime.throttle.attempt(LOGIN, source, now=runtime.now())
        assert await find_candidates(runtime.throttle, [alice.username], attempt)
        event.remove(runtime.engine.sync_engine, "before_cursor_execute", note)
        ((statement, parameters),) = sent
        explained = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(explained.scalars())
    assert "uq_users_username_key" in plan
    assert "pk_known_networks" in plan
    assert "pk_failure_budgets" in plan
    assert "Seq Scan" not in plan
