"""Turns at the hashing threads: none is lost, whoever hangs up or is cancelled."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.identity.hash_queue import (
    CallerGone,
    HashQueue,
    Source,
    TooManyLogins,
)
from tests.support.processes import PATIENCE
from tests.support.queues import PLACES, SHARE, Crowd, bob, length, queue_of, take_all


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
