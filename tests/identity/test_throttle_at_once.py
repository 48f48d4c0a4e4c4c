"""The throttle under attempts that come at once, at one replica or two."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from app.access.clients import authenticate_client
from app.db.work import Actor, Origin
from app.identity.clients import ClientCredentials, ClientRefused
from app.identity.login import WrongPassword, confirm_password
from app.identity.models import FailureBudget
from app.identity.names import username_key
from app.identity.throttle import (
    ACCOUNT,
    ACCOUNT_AND_ADDRESS,
    LOGIN,
    SESSION,
    FailureLimit,
    Throttled,
)
from app.runtime import Runtime
from tests.support.clock import MovableClock, StandingClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, authenticated, make_user, signed_in
from tests.support.locks import hashing_held, until_waiting
from tests.support.statements import statements_of
from tests.support.throttle import (
    AWAY,
    HOME,
    actions,
    budgets,
    fail,
    numbered,
    replica,
    sign_in,
    wait_of,
)

pytestmark = pytest.mark.long


@pytest.fixture
def clock() -> MovableClock:
    return StandingClock()


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
    assert len(at_once) == 1
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
