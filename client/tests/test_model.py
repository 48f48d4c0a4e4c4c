"""The promise itself: no permission outlives the bound, whatever the network does."""

import asyncio
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.tests.simulation import BOUND, ISSUER, Change, Database, Issued, Network, VirtualLoop
from scopegate_client import InvalidToken, Unavailable, checking, introspection, stream, tokens
from scopegate_client.checking import Checker
from scopegate_client.knowledge import Knowledge
from scopegate_client.stream import Stream

MODULES = (checking, introspection, stream, tokens)
USERS = [f"user {number}" for number in range(8)]
TAKING = ("end", "end all", "disable", "revoke")
KINDS = [*TAKING, *TAKING, "enable", "grant", "remove", "restore", "later kind", "unknown"]
LENGTH = 40.0
"""Seconds of each history."""

moments = st.floats(0, LENGTH).map(lambda at: round(at, 3))
changes = st.builds(
    lambda at, kind, user, number: Change(at, kind, user, f"{user}, session {number}"),
    moments,
    st.sampled_from(KINDS),
    st.sampled_from(USERS),
    st.integers(0, 1),
)
# Whose, in which session, when, for how long, and of which format.
sign_ins = st.tuples(
    st.sampled_from(USERS),
    st.integers(0, 1),
    st.floats(0, LENGTH / 4).map(lambda at: round(at, 3)),
    st.sampled_from([900, 900, 900, 12]),
    st.booleans(),
)


@dataclass(frozen=True)
class Honoured:
    """A request that passed."""

    token: Issued
    asked: float
    passed: float


class Run:
    """One history, and what the client made of it."""

    def __init__(self, database: Database, seed: int, trouble: float) -> None:
        self.database, self.loop = database, VirtualLoop()
        chance = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.network = Network(database, chance, self.loop, trouble=trouble)
        self.honoured: list[Honoured] = []
        self.refused: list[tuple[Issued, float]] = []
        self.unavailable = self.introspections = 0

    def play(self, requests: list[tuple[Issued, float]]) -> None:
        """Have the client follow the stream and judge these requests."""
        with pytest.MonkeyPatch.context() as patch:
            for module in MODULES:
                patch.setattr(module, "time", SimpleNamespace(monotonic=self.loop.time))
            self.loop.run(self._play(requests))

    async def _play(self, requests: list[tuple[Issued, float]]) -> None:
        knowledge = Knowledge(ISSUER, bound=BOUND)
        async with httpx2.AsyncClient(transport=self.network, base_url=ISSUER) as http:
            checker = Checker(http, ISSUER, ISSUER, knowledge)
            following = asyncio.create_task(Stream(http, ISSUER, knowledge).follow())
            await asyncio.gather(*(self._ask(checker, *each) for each in requests))
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            checker.close()
        self.introspections = checker.introspections

    async def _ask(self, checker: Checker, token: Issued, at: float) -> None:
        await asyncio.sleep(at - self.loop.time())
        try:
            principal = await checker.check(token.text)
        except InvalidToken:
            self.refused.append((token, at))
        except Unavailable:
            self.unavailable += 1
        else:
            if "read:orders" in principal.scopes:
                self.honoured.append(Honoured(token, at, self.loop.time()))


def played(
    changes: list[Change],
    sign_ins: list[tuple[str, int, float, int, bool]],
    step: float,
    network: tuple[int, float],
) -> Run:
    """Have each token presented again and again, from its issue on."""
    database = Database(changes)
    issued = [
        database.issue(user, f"{user}, session {number}", at, lives, opaque=opaque)
        for user, number, at, lives, opaque in sign_ins
        if database.may_issue(user, f"{user}, session {number}", at)
    ]
    run = Run(database, *network)
    requests = [
        (token, token.at + number * step)
        for token in issued
        for number in range(1, int((LENGTH - token.at) / step))
    ]
    run.play(requests)
    return run


histories = given(
    st.lists(changes, min_size=4, max_size=16),
    st.lists(sign_ins, min_size=4, max_size=12),
    # Seconds between two requests with a token.
    st.sampled_from([0.3, 0.9, 2.7]),
    # What decides all that the network does, and how much of it is trouble.
    st.tuples(st.integers(0, 2**32), st.sampled_from([0.1, 0.4, 0.7, 1.0])),
)
patient = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.long
@histories
@settings(patient, max_examples=300)
def test_a_permission_that_was_taken_away_before_the_bound_is_never_honoured(
    changes: list[Change],
    sign_ins: list[tuple[str, int, float, int, bool]],
    step: float,
    network: tuple[int, float],
) -> None:
    run = played(changes, sign_ins, step, network)
    for each in run.honoured:
        # Times on the wire are rounded to milliseconds.
        begin = each.passed - BOUND - 0.002
        assert run.database.permitted_within(each.token, begin, each.passed), each


@pytest.mark.long
@histories
@settings(patient, max_examples=100)
def test_a_token_whose_user_and_scopes_nothing_touched_is_never_refused(
    changes: list[Change],
    sign_ins: list[tuple[str, int, float, int, bool]],
    step: float,
    network: tuple[int, float],
) -> None:
    touched = USERS[::2]
    run = played(
        [
            each
            for each in changes
            if each.user in touched and each.kind not in {"remove", "restore"}
        ],
        [(user, number, at, 900, opaque) for user, number, at, _, opaque in sign_ins],
        step,
        network,
    )
    assert [each for each, _ in run.refused if each.user not in touched] == []
