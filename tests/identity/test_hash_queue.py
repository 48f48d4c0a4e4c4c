"""The queue before the hashing threads: nobody's calls keep the others from being served."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.db.work import Actor, Origin
from app.identity.hash_queue import (
    ACCOUNT_SHARE,
    LEAST_PLACES,
    CallerGone,
    HashQueue,
    Source,
    TooManyLogins,
    source_of,
)
from tests.processes import PATIENCE

PLACES = 64
SHARE = PLACES // ACCOUNT_SHARE


def queue_of(places: int = PLACES) -> HashQueue:
    """A queue in which so many can wait before the turn that is next."""
    return HashQueue(threads=1, places=places + 1)


def length(queue: HashQueue) -> int:
    """Calls in the lanes."""
    return sum(map(len, queue._lanes.values()))


async def take_all(queue: HashQueue) -> None:
    """Take the thread's turn, and that of the call which is made ready."""
    while queue._free:
        await queue.take_turn(Source())


class Crowd:
    """Callers of a queue whose turns are taken: they all have to wait."""

    def __init__(self, places: int = PLACES) -> None:
        self.queue = queue_of(places)
        self.served: list[Source] = []
        self.refused: list[Source] = []
        self.tasks: deque[asyncio.Task[None]] = deque()

    async def come(self, sources: Iterable[Source]) -> None:
        """These callers ask for a turn, one after the other."""
        await take_all(self.queue)
        for source in sources:
            self.tasks.append(asyncio.create_task(self._ask(source)))
            await asyncio.sleep(0)

    async def _ask(self, source: Source) -> None:
        try:
            await self.queue.take_turn(source)
        except TooManyLogins:
            self.refused.append(source)
        else:
            self.served.append(source)

    async def serve(self, turns: int) -> None:
        """End so many turns: as many callers are served, if they are there."""
        for _ in range(turns):
            self.queue.give_back()
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def serve_all(self) -> None:
        while length(self.queue):
            await self.serve(1)
        await asyncio.gather(*self.tasks)


def bob(number: int = 0) -> Source:
    return Source("logins", f"127.0.0.{number}", "bob")


def numbered(count: int, network: str = "192.0.2.{}") -> list[Source]:
    """As many accounts, each in a network of its own unless one is given."""
    return [Source("logins", network.format(number), f"user-{number}") for number in range(count)]


@pytest.mark.parametrize("networks", [1, 50])
async def test_one_account_signing_in_holds_its_share_and_the_others_get_in(networks: int) -> None:
    crowd = Crowd()
    await crowd.come(bob(number % networks) for number in range(80))
    assert length(crowd.queue) == SHARE
    assert crowd.queue.refused == len(crowd.refused) == 80 - SHARE
    honest = numbered(20)
    await crowd.come(honest)
    await crowd.come(bob(number % networks) for number in range(80))
    assert set(crowd.refused) & set(honest) == set()
    await crowd.serve(len(honest) + SHARE)
    assert set(honest) <= set(crowd.served)
    assert Counter(source.account for source in crowd.served)["bob"] == SHARE
    await crowd.serve_all()


@pytest.mark.parametrize(
    ("attackers", "soon"),
    [
        ([Source("logins", "127.0.0.1", f"nobody-{n}") for n in range(200)], 2),
        ([Source("logins", f"127.0.0.{n % 50}", f"nobody-{n}") for n in range(200)], 51),
        ([Source("logins", f"127.0.0.{n % 50}", f"nobody-{n % 7}") for n in range(200)], 51),
        ([Source("logins", f"2001:db8:0:{n % 3}::/64", f"nobody-{n}") for n in range(200)], 4),
    ],
    ids=["one address", "fifty addresses", "fifty addresses, few names", "three networks"],
)
async def test_names_without_end_keep_no_login_from_elsewhere_out(
    attackers: list[Source], soon: int
) -> None:
    crowd = Crowd()
    await crowd.come(attackers)
    alice = Source("logins", "198.51.100.7", "alice")
    await crowd.come([alice, *attackers])
    await crowd.serve(soon)
    assert alice in crowd.served, "each network is served once before"
    await crowd.serve_all()
    assert alice not in crowd.refused


async def test_behind_one_address_accounts_are_served_in_turn() -> None:
    """All requests come from the proxy, if it is not named in the settings."""
    crowd = Crowd()
    await crowd.come([Source("logins", "192.0.2.1", f"user-{n % 8}") for n in range(200)])
    assert length(crowd.queue) == PLACES
    alice = Source("logins", "192.0.2.1", "alice")
    await crowd.come([alice])
    await crowd.serve(9)
    assert crowd.served[-1] == alice
    await crowd.serve_all()


async def test_a_full_queue_takes_the_place_of_the_network_with_the_most() -> None:
    crowd = Crowd()
    few = numbered(30)
    many = [Source("logins", "127.0.0.1", f"user-{n % 7}") for n in range(50)]
    await crowd.come([*few, *many])
    assert length(crowd.queue) == PLACES
    more = numbered(10, "198.51.100.{}")
    await crowd.come(more)
    assert {source.network for source in crowd.refused} == {"127.0.0.1"}
    await crowd.serve_all()
    assert set(crowd.served) >= {*few, *more}


async def test_the_newest_call_is_refused_and_not_one_that_has_waited() -> None:
    crowd = Crowd()
    waiting = numbered(PLACES)
    await crowd.come(waiting)
    await crowd.come([Source("logins", "198.51.100.1", "one"), *waiting[:5]])
    assert crowd.refused[0].account == "one"
    assert len(crowd.refused) == 6
    await crowd.serve_all()
    assert crowd.served == waiting


async def test_an_account_guessed_at_from_one_address_keeps_a_place_for_its_owner() -> None:
    crowd = Crowd()
    await crowd.come(bob(1) for _ in range(20))
    assert length(crowd.queue) == SHARE
    await crowd.come([bob(2)])
    assert set(crowd.refused) == {bob(1)}
    await crowd.serve(2)
    assert bob(2) in crowd.served
    await crowd.serve_all()


@pytest.mark.parametrize("storm", ["logins", "accounts"])
async def test_a_full_lane_keeps_nothing_from_the_other(storm: str) -> None:
    crowd = Crowd()
    logins = numbered(200)
    work = [Source("accounts", source.network, source.account) for source in logins]
    full, other = (logins, work) if storm == "logins" else (work, logins)
    await crowd.come(full)
    await crowd.come(other[:10])
    assert set(crowd.refused).isdisjoint(other)
    await crowd.serve(20)
    served = Counter(source.lane for source in crowd.served)
    assert served == {"logins": 10, "accounts": 10}
    await crowd.serve_all()


async def test_one_who_changes_passwords_without_end_keeps_no_administrator_out() -> None:
    crowd = Crowd()
    thief = Source("accounts", "127.0.0.1", "thief")
    await crowd.come([thief] * 80)
    admin = Source("accounts", "192.0.2.1", "admin")
    await crowd.come([admin, Source()])
    await crowd.serve(3)
    assert {admin, Source()} <= set(crowd.served)
    await crowd.serve_all()
    assert set(crowd.refused) == {thief}


@pytest.mark.parametrize(("places", "share"), [(1, 1), (2, 2), (8, 4), (64, 8), (800, 100)])
async def test_the_share_grows_with_the_queue(places: int, share: int) -> None:
    assert LEAST_PLACES == 4
    crowd = Crowd(places)
    await crowd.come([bob()] * 2 * places)
    assert length(crowd.queue) == min(places, share)
    await crowd.serve_all()


async def test_addresses_of_one_64_are_one_source() -> None:
    one, other, third = (
        source_of(Actor(origin=Origin(address=f"2001:db8:0:{address}")))
        for address in ("1::1", "1:ffff::2", "2::1")
    )
    assert one == other != third


async def test_a_caller_who_hangs_up_makes_room_in_the_share_at_once() -> None:
    queue = queue_of()
    await take_all(queue)
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    leaving = [asyncio.create_task(queue.take_turn(bob(), gone)) for _ in range(SHARE)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLogins):
        await queue.take_turn(bob())
    gone.set_result(None)
    for each in leaving:
        with pytest.raises(CallerGone):
            await each
    assert length(queue) == 0
    waiting = asyncio.create_task(queue.take_turn(bob()))
    await asyncio.sleep(0)
    queue.give_back()
    assert await waiting > 0


async def test_a_turn_that_comes_as_its_caller_is_cancelled_is_given_to_the_next() -> None:
    queue = queue_of()
    await take_all(queue)
    first, second = (asyncio.create_task(queue.take_turn(bob(number))) for number in (1, 2))
    await asyncio.sleep(0)
    queue.give_back()
    first.cancel()
    async with asyncio.timeout(PATIENCE):
        assert await second > 0
    assert first.cancelled()
    queue.give_back()
    assert await queue.take_turn(Source()) == 0


async def test_asking_for_room_first_tells_what_the_queue_then_does() -> None:
    crowd = Crowd()
    crowd.queue.check_room(bob())
    await crowd.come([bob()] * (SHARE - 1))
    crowd.queue.check_room(bob())
    assert length(crowd.queue) == SHARE - 1
    await crowd.come([bob()])
    with pytest.raises(TooManyLogins):
        crowd.queue.check_room(bob())
    office = [Source("logins", "192.0.2.1", f"user-{number}") for number in range(PLACES)]
    await crowd.come(office)
    assert length(crowd.queue) == PLACES
    with pytest.raises(TooManyLogins):
        crowd.queue.check_room(office[0])
    crowd.queue.check_room(bob(1))
    crowd.queue.check_room(Source("logins", "198.51.100.7", "alice"))
    crowd.queue.check_room(Source("accounts", "192.0.2.1", "user-0"))
    assert length(crowd.queue) == PLACES
    await crowd.serve_all()
    assert crowd.served[0] == bob()


moves = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "end", "cancel", "hang up", "end and cancel"]),
        st.integers(0, 5),
        st.integers(0, 3),
        st.sampled_from(["logins", "accounts"]),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(moves=moves, threads=st.integers(1, 3), places=st.integers(1, 8))
def test_no_turn_is_lost_and_every_call_ends_whatever_happens(
    moves: list[tuple[str, int, int, str]], threads: int, places: int
) -> None:
    async def play() -> None:
        queue = HashQueue(threads=threads, places=places)
        calls: list[tuple[asyncio.Task[float], asyncio.Future[None]]] = []
        ended: set[asyncio.Task[float]] = set()

        def holding() -> list[asyncio.Task[float]]:
            return [
                task
                for task, _ in calls
                if task.done() and not task.cancelled() and not task.exception()
                if task not in ended
            ]

        def end_one() -> None:
            for task in holding()[:1]:
                ended.add(task)
                queue.give_back()

        for move, one, other, lane in moves:
            task, gone = calls[one % len(calls)] if calls else (None, None)
            if move == "ask":
                left = asyncio.get_running_loop().create_future()
                source = Source(lane, str(one), str(other))  # type: ignore[arg-type]
                calls.append((asyncio.create_task(queue.take_turn(source, left)), left))
            if move.startswith("end"):
                end_one()
            if move.endswith("cancel") and task is not None:
                task.cancel()
            if move == "hang up" and gone is not None and not gone.done():
                gone.set_result(None)
            for _ in range(other):  # Sometimes several things happen in one moment.
                await asyncio.sleep(0)
            assert len(holding()) + queue._free <= threads + 1
            assert all(len(lane) <= places for lane in queue._lanes.values())
        for _ in range(4 * len(calls) + 4):
            end_one()
            await asyncio.sleep(0)
        assert all(task.done() for task, _ in calls)
        while holding():
            end_one()
        assert queue._free == threads + 1
        assert length(queue) == 0
        outcomes = await asyncio.gather(*(task for task, _ in calls), return_exceptions=True)
        allowed = (float, TooManyLogins, CallerGone, asyncio.CancelledError)
        assert all(isinstance(outcome, allowed) for outcome in outcomes)

    asyncio.run(play())
