"""The throttle: what it charges, whom it makes wait and for how long, and whom never."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.authority import OPERATOR
from app.audit.models import AuditEntry
from app.db.work import Actor, Origin
from app.identity import throttle
from app.identity.clients import ClientCredentials, ClientRefused, authenticate_client
from app.identity.login import LoginRefused, WrongPassword, change_password, confirm_password
from app.identity.models import FailureBudget, KnownNetwork
from app.identity.names import username_key
from app.identity.networks import remember_network
from app.identity.throttle import (
    ACCOUNT,
    ACCOUNT_AND_ADDRESS,
    ADDRESS,
    LOGIN,
    MAX_WAIT,
    SESSION,
    AttemptSource,
    FailureLimit,
    Throttled,
)
from app.runtime import Runtime
from app.tokens.issuing import password_grant
from tests.clock import MovableClock
from tests.conftest import following, settings_for
from tests.factories import PASSWORD, Someone, authenticated, make_user, signed_in
from tests.holding import hashing_held, until_waiting
from tests.statements import statements_of

HOME = "192.0.2.1"
AWAY = "198.51.100.7"


def numbered(number: int) -> str:
    """One of very many addresses."""
    return f"203.0.{number // 256}.{number % 256}"


async def sign_in(
    runtime: Runtime, username: str, password: str = PASSWORD, *, address: str
) -> str:
    """A whole login by password: `in`, `refused` after it was checked, or `throttled`."""
    actor = Actor(origin=Origin(address=address))
    try:
        user = await authenticated(runtime, username, password, actor=actor)
    except LoginRefused:
        return "refused"
    except Throttled:
        return "throttled"
    async with runtime.work(actor) as work:
        await password_grant(work, runtime.issuer, user=user, client=None, requested=None)
    return "in"


async def fail(
    runtime: Runtime,
    name: str,
    *,
    address: str,
    user: Someone | None = None,
    limits: tuple[FailureLimit, ...] = LOGIN,
) -> None:
    """A failure as a login charges it, without the hash that it costs. Raises Throttled."""
    source = AttemptSource(name, user.id if user else None, address)
    async with runtime.work(OPERATOR) as work:
        attempt = await runtime.throttle.admit(work.db, limits, source, now=work.now)
        await throttle.charge(work.db, attempt, now=work.now)


async def wait_of(runtime: Runtime, name: str = "alice", *, address: str = HOME) -> timedelta:
    """How long an attempt has to wait; zero: it is let in."""
    async with runtime.sessions() as db:
        try:
            source = AttemptSource(name, None, address)
            await runtime.throttle.admit(db, LOGIN, source, now=runtime.now())
        except Throttled as refused:
            return timedelta(seconds=refused.retry_after)
    return timedelta()


async def budgets(db: AsyncSession) -> list[datetime]:
    """What is in the table, the longest wait first."""
    found = select(FailureBudget.open_at).order_by(FailureBudget.open_at.desc())
    return list(await db.scalars(found))


async def actions(runtime: Runtime) -> Counter[str]:
    """How many audit entries there are of each action."""
    async with runtime.sessions() as db:
        return Counter(await db.scalars(select(AuditEntry.action)))


class StandingClock(MovableClock):
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self._moment = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self._moment + self._offset


@pytest.fixture
def clock() -> MovableClock:
    return StandingClock()


@asynccontextmanager
async def replica(database_url: str, clock: MovableClock) -> AsyncIterator[Runtime]:
    """A runtime that turns nobody away for being busy, so that logins meet the throttle alone."""
    settings = settings_for(
        database_url,
        hash_queue=2000,
        database_connect_timeout=60,
        database_pool_timeout=60,
        database_statement_timeout=60,
    )
    async with Runtime.open(settings, now=clock) as runtime, following(runtime):
        yield runtime


async def test_the_owner_signs_in_from_a_known_address_while_a_hundred_others_guess(
    own_database_url: str, clock: MovableClock
) -> None:
    async with replica(own_database_url, clock) as runtime:
        alice = await make_user(runtime)
        assert await sign_in(runtime, alice.username, address=HOME) == "in"
        outcomes: Counter[str] = Counter()
        for guess in range(15):
            guesses = [
                sign_in(runtime, alice.username, f"guess {guess}", address=numbered(number))
                for number in range(100)
            ]
            owner = sign_in(runtime, alice.username, address=HOME)
            *others, owners = await asyncio.gather(*guesses, owner)
            assert owners == "in"
            outcomes.update(others)
            clock.move(seconds=1)
        # The hundred of the first moment were let in at once; then it was one every five seconds,
        # when all who ask at once are let in, but the wait is as much longer.
        assert outcomes["refused"] <= 200
        assert outcomes["throttled"] == 1500 - outcomes["refused"]
        assert runtime.throttle.refused == outcomes["throttled"]
        stranger = await sign_in(runtime, alice.username, address=AWAY)
        assert stranger == "throttled", "that limit does hold for whoever was never there"


async def test_parallel_logins_that_are_right_are_never_throttled(
    own_database_url: str, clock: MovableClock
) -> None:
    async with replica(own_database_url, clock) as runtime:
        alice = await make_user(runtime)
        logins = (sign_in(runtime, alice.username, address=HOME) for _ in range(50))
        assert set(await asyncio.gather(*logins)) == {"in"}
        async with runtime.sessions() as db:
            assert await budgets(db) == []


async def test_failures_charged_at_once_by_two_replicas_add_up_exactly(
    own_database_url: str, clock: MovableClock
) -> None:
    async with replica(own_database_url, clock) as one, replica(own_database_url, clock) as other:
        alice = await make_user(one)
        outcomes = Counter(
            await asyncio.gather(
                *(
                    sign_in((one, other)[number % 2], alice.username, "wrong", address=HOME)
                    for number in range(20)
                ),
                *(
                    sign_in(
                        (one, other)[number % 2], alice.username, "wrong", address=numbered(number)
                    )
                    for number in range(180)
                ),
            )
        )
        checked = outcomes["refused"]
        assert checked >= ACCOUNT.burst
        account = one.throttle._key(ACCOUNT, alice.username, "")
        async with one.sessions() as db:
            budget = await db.get_one(FailureBudget, account)
        assert budget.open_at == clock() - ACCOUNT.slack + checked * ACCOUNT.interval
        told = await actions(one)
        assert told["login.failed"] == checked
        # The account's limit, and that of the account at home: each once, perhaps at one failure.
        assert told["login.throttled"] in {1, 2}


async def charge_beforehand(
    runtime: Runtime, limit: FailureLimit, failures: int, user: Someone
) -> Callable[[int], str]:
    """Charge so many failures to this limit's budget alone, for logins as this user.

    Return the address that each login must come from for this limit to be the one it meets.
    """
    key = runtime.throttle._key(limit, username_key(user.username), HOME)
    open_at = runtime.now() - limit.slack + failures * limit.interval
    async with runtime.work(OPERATOR) as work:
        await work.db.merge(FailureBudget(key=key, open_at=open_at))
    return lambda number: numbered(number) if limit is ACCOUNT else HOME


@pytest.mark.parametrize("limit", LOGIN, ids=lambda limit: limit.counted)
async def test_of_eleven_attempts_at_once_the_right_one_is_let_in_wherever_it_stands(
    own_database_url: str, clock: MovableClock, limit: FailureLimit
) -> None:
    """On two replicas, with ten failures left."""
    async with replica(own_database_url, clock) as one, replica(own_database_url, clock) as other:
        alice = await make_user(one)
        for place in (0, 5, 10):
            clock.move(hours=1)
            address = await charge_beforehand(one, limit, limit.burst - 10, alice)
            attempts = [
                sign_in(
                    (one, other)[number % 2],
                    alice.username,
                    PASSWORD if number == place else "wrong",
                    # For the account's own limit, from where she was never.
                    address=address(100 * place + number),
                )
                for number in range(11)
            ]
            outcomes = await asyncio.gather(*attempts)
            assert outcomes.pop(place) == "in"
            assert set(outcomes) == {"refused"}, "each was looked at"
            assert await wait_of(one, alice.username, address=address(9999)) > timedelta()


@pytest.mark.parametrize("limit", LOGIN, ids=lambda limit: limit.counted)
async def test_guesses_at_once_on_two_replicas_are_about_as_many_as_the_limit_lets_through(
    own_database_url: str, clock: MovableClock, limit: FailureLimit
) -> None:
    async with replica(own_database_url, clock) as one, replica(own_database_url, clock) as other:
        alice = await make_user(one)
        address = await charge_beforehand(one, limit, limit.burst - 10, alice)
        guesses = [
            sign_in(
                (one, other)[number % 2], alice.username, f"guess {number}", address=address(number)
            )
            for number in range(60)
        ]
        outcomes = Counter(await asyncio.gather(*guesses))
        told = await actions(one)
    assert outcomes.total() == outcomes["refused"] + outcomes["throttled"]
    threads = one.settings.hash_threads + 1 + other.settings.hash_threads + 1
    assert 11 <= outcomes["refused"] <= 11 + 2 * threads, "those under way can overrun it"
    assert told["login.failed"] == outcomes["refused"]
    assert told["login.throttled"] <= len(LOGIN), "what is refused at its turn is not audited"
    assert one.throttle.refused + other.throttle.refused == outcomes["throttled"]


async def test_a_right_password_behind_eleven_charged_failures_waits_as_long_as_it_is_told(
    own_database_url: str, clock: MovableClock
) -> None:
    async with replica(own_database_url, clock) as runtime:
        alice = await make_user(runtime)
        async with hashing_held(runtime) as held:
            actor = Actor(origin=Origin(address=HOME))
            queued = asyncio.create_task(authenticated(runtime, alice.username, actor=actor))
            await held.until_waiting()
            await charge_beforehand(runtime, ACCOUNT_AND_ADDRESS, 11, alice)
            hashed = runtime.hasher.begun
        with pytest.raises(Throttled) as refused:
            await queued
    assert refused.value.retry_after == 2 * ACCOUNT_AND_ADDRESS.interval.total_seconds()
    assert runtime.hasher.begun <= hashed + 1, "but for what held the threads, nothing was hashed"
    assert runtime.hasher.waiting == 0


async def test_only_a_login_that_had_to_wait_is_looked_at_again_and_holds_no_connection(
    own_runtime: Runtime,
) -> None:
    alice = await make_user(own_runtime)
    with statements_of(own_runtime) as at_once:
        await authenticated(own_runtime, alice.username)
    with statements_of(own_runtime) as queued:
        async with hashing_held(own_runtime) as held:
            logins = [
                asyncio.create_task(authenticated(own_runtime, alice.username)) for _ in range(5)
            ]
            await held.until_waiting(len(logins))
            assert own_runtime.pool.checkedout() <= 2, "the change feed's, and none of a login"
        await asyncio.gather(*logins)
    looks = [each for each in queued if "failure_budgets" in each]
    assert len(at_once) == 2
    assert len(queued) == len(logins) * (len(at_once) + 1)
    assert len(looks) == len(logins) * 2
    assert all(each.startswith("SELECT") for each in queued), "nothing is written"


@pytest.mark.parametrize("wrong", ["password", "client secret"])
async def test_failures_that_wait_for_the_audit_log_keep_no_other_from_being_charged(
    own_runtime: Runtime, wrong: str
) -> None:
    """Or else very many at once would hold all connections, each waiting for the one before."""
    alice = await make_user(own_runtime)

    async def fail_once() -> None:
        if wrong == "password":
            await sign_in(own_runtime, alice.username, "wrong", address=HOME)
            return
        with pytest.raises(ClientRefused):
            async with authenticate_client(
                own_runtime.database,
                own_runtime.throttle,
                readings=[ClientCredentials("worker", "wrong")],
                actor=Actor(origin=Origin(address=HOME)),
            ):
                pass

    async with own_runtime.sessions() as db:
        await db.execute(text("LOCK TABLE audit_entries IN SHARE MODE"))
        failing = [asyncio.create_task(fail_once()) for _ in range(3)]
        await until_waiting(own_runtime, "relation", len(failing))
    await asyncio.gather(*failing)
    assert (await actions(own_runtime))["login.failed"] == len(failing)


async def test_a_limit_reached_in_one_replica_counts_in_the_other(
    own_database_url: str, clock: MovableClock
) -> None:
    async with replica(own_database_url, clock) as one, replica(own_database_url, clock) as other:
        for _ in range(ACCOUNT_AND_ADDRESS.burst):
            assert await wait_of(other) == timedelta()
            await fail(one, "alice", address=HOME)
        assert await wait_of(other) == await wait_of(one) == ACCOUNT_AND_ADDRESS.interval
        assert await wait_of(other, address=AWAY) == timedelta()
        assert await wait_of(other, name="bob") == timedelta()


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
        attempt = await runtime.throttle.admit(work.db, LOGIN, source, now=work.now)
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
        await remember_network(work, alice.id)
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
        await remember_network(work, alice.id)
    first = clock()
    async with own_runtime.sessions() as held:
        await held.execute(select(KnownNetwork).with_for_update())
        async with own_runtime.work(Actor(origin=Origin(address=HOME))) as work:
            await work.db.execute(text("SET LOCAL lock_timeout = '1s'"))
            await remember_network(work, alice.id)
    clock.move(hours=25)
    for moment in (first, clock()):
        async with own_runtime.work(Actor(origin=Origin(address=HOME))) as work:
            assert await work.db.scalar(select(KnownNetwork.signed_in_at)) == moment
            await remember_network(work, alice.id)


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
    async with runtime.sessions() as db:
        keys = list(await db.scalars(select(FailureBudget.key)))
        # Nor a digest that whoever has a list of names could make.
        again = throttle.Throttle(["another secret"], runtime.sessions)
        source = AttemptSource(typed, None, HOME)
        other = await again.admit(db, LOGIN, source, now=runtime.now())
    assert len(keys) == len(LOGIN)
    assert {len(key) for key in keys} == {32}
    assert not set(keys) & set(other.budgets.values())


async def test_a_wrong_current_password_is_throttled(runtime: Runtime) -> None:
    alice = await make_user(runtime)
    for _ in range(ACCOUNT_AND_ADDRESS.burst):
        await fail(runtime, alice.username, address=HOME, user=alice)
    with pytest.raises(Throttled):
        await change_password(
            runtime.guard,
            alice.id,
            session_id=alice.id,
            current=PASSWORD,
            new="another horse battery staple",
            actor=Actor(origin=Origin(address=HOME)),
        )


async def test_a_stolen_token_guesses_about_ten_passwords_at_once_from_however_many_addresses(
    own_database_url: str, clock: MovableClock
) -> None:
    async with replica(own_database_url, clock) as one, replica(own_database_url, clock) as other:
        alice = await make_user(one)
        session = (await signed_in(one, alice)).session_id
        assert session is not None

        async def guess(number: int) -> str:
            runtime = (one, other)[number % 2]
            try:
                async with confirm_password(
                    runtime.guard,
                    alice.id,
                    session_id=session,
                    password=f"guess {number}",
                    actor=Actor(user_id=alice.id, origin=Origin(address=numbered(number))),
                ):
                    pass
            except WrongPassword:
                return "refused"
            except Throttled:
                return "throttled"
            return "in"

        outcomes = Counter(await asyncio.gather(*map(guess, range(60))))
        threads = one.settings.hash_threads + 1 + other.settings.hash_threads + 1
        assert SESSION.burst < outcomes["refused"] <= SESSION.burst + 1 + 2 * threads
        assert outcomes["throttled"] == 60 - outcomes["refused"]
        assert await guess(1000) == "throttled"


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
            "FROM generate_series(1, 20000) n"
        )
        await connection.exec_driver_sql(
            "INSERT INTO failure_budgets SELECT sha256(n::text::bytea), now() "
            "FROM generate_series(1, 20000) n"
        )
        await connection.exec_driver_sql("ANALYZE known_networks, failure_budgets")
        sent: list[tuple[str, Any]] = []

        def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            sent.append((statement, parameters))

        event.listen(runtime.engine.sync_engine, "before_cursor_execute", note)
        source = AttemptSource("alice", alice.id, HOME)
        await runtime.throttle.admit(db, LOGIN, source, now=runtime.now())
        event.remove(runtime.engine.sync_engine, "before_cursor_execute", note)
        ((statement, parameters),) = sent
        explained = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(explained.scalars())
    assert "pk_known_networks" in plan
    assert "pk_failure_budgets" in plan
    assert "Seq Scan" not in plan


class Model:
    """GCRA as the books have it, in seconds: a theoretical arrival time, and a tolerance."""

    def __init__(self, limit: FailureLimit) -> None:
        self._interval = int(limit.interval.total_seconds())
        self._tolerance = (limit.burst - 1) * self._interval
        self._arrival = 0

    def wait(self, now: int) -> int:
        return max(0, self._arrival - self._tolerance - now)

    def charge(self, now: int) -> bool:
        """Charge a failure; whether that reached the limit."""
        before = self.wait(now)
        latest = now + self._tolerance + int(MAX_WAIT.total_seconds())
        self._arrival = min(max(self._arrival, now) + self._interval, latest)
        return before == 0 < self.wait(now)


limits = st.builds(
    FailureLimit,
    counted=st.sampled_from(["address", "account"]),
    burst=st.integers(1, 6),
    interval=st.integers(1, 400).map(lambda seconds: timedelta(seconds=seconds)),
)
pauses = st.lists(st.sampled_from([0, 0, 0, 1, 30]) | st.integers(0, 3000), min_size=1, max_size=25)


async def test_the_statement_charges_what_gcra_charges_in_any_order_of_events(
    runtime: Runtime, clock: MovableClock
) -> None:
    loop = asyncio.get_running_loop()
    start = clock()

    async def charge_and_compare(limit: FailureLimit, pauses: list[int]) -> None:
        model, now = Model(limit), 0
        attempt = throttle.Attempt({limit: b"key"}, user_id=None, network=HOME, admitted_at=start)
        async with runtime.sessions() as db:
            for pause in pauses:
                now += pause
                moment = start + timedelta(seconds=now)
                reached = await throttle.charge(db, attempt, now=moment)
                assert len(reached) == model.charge(now)
                (open_at,) = await budgets(db)
                assert max(open_at - moment, timedelta()) == timedelta(seconds=model.wait(now))
            await db.rollback()

    @settings(max_examples=60, deadline=None)
    @given(limit=limits, pauses=pauses)
    def explore(limit: FailureLimit, pauses: list[int]) -> None:
        asyncio.run_coroutine_threadsafe(charge_and_compare(limit, pauses), loop).result()

    await asyncio.to_thread(explore)
