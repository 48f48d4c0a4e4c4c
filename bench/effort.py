"""How much is measured: all of it, or just enough to see that everything works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How often and how long."""

    name: str
    rounds: int
    seconds: float
    """Of load on one route, each round."""
    tries: int
    """Revocations of each of Scopegate's ways."""
    peer_tries: int
    small: int
    large: int
    """Users in the two databases that are compared."""
    sessions: int
    """Sessions in the larger database; the smaller has at most one a user."""
    calls: int
    """Calls of one function in one database, each round."""
    remembered: int
    """Sessions that one process remembers, to see what one weighs."""
    names: int
    """Logins that are refused, to see whether the time tells which names exist."""
    guesses: int
    """At one account, to see whether its owner can still sign in."""
    storms: int
    """Rounds with a storm of logins."""
    storm_seconds: float
    """Of each thing that is measured in such a round."""
    starts: int
    """Of Scopegate, and as many of what it is held to."""
    requests: int
    """To one worker, before it is weighed."""
    stretch_seconds: float
    """Of logins, and of refreshes, each time among those."""
    repeats: int
    """Of each request of a stranger, of which the cheapest counts."""


FULL = Effort(
    name="full",
    rounds=20,  # rather many short ones: the nearer in time, the better two can be compared
    seconds=1.0,
    tries=1000,
    peer_tries=100,
    small=1000,
    large=1_000_000,
    sessions=100_000,
    calls=150,
    remembered=20_000,
    names=400,
    guesses=10_000,
    storms=7,
    storm_seconds=4.0,
    starts=10,
    requests=100_000,
    stretch_seconds=2.0,
    repeats=7,
)
QUICK = Effort(
    name="quick",
    rounds=2,
    seconds=0.5,
    tries=20,
    peer_tries=5,
    small=1000,
    large=20_000,
    sessions=10_000,
    calls=50,
    remembered=2000,
    names=40,
    guesses=500,
    storms=1,
    storm_seconds=1.0,
    starts=2,
    requests=2000,
    stretch_seconds=0.5,
    repeats=1,
)
