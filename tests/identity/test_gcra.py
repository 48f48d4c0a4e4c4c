"""The statement that charges a failure, against GCRA as the books have it."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.identity import throttle
from app.identity.throttle import (
    MAX_WAIT,
    FailureLimit,
)
from app.runtime import Runtime
from tests.support.clock import MovableClock, StandingClock
from tests.support.throttle import (
    HOME,
    budgets,
)


@pytest.fixture
def clock() -> MovableClock:
    return StandingClock()


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
        attempt = throttle.Attempt({limit: b"key"}, user_id=None, network=HOME, made_at=start)
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
