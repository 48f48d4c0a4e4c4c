"""The goals that Scopegate has set itself, and whether this run meets them."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.contest import Contest
from bench.contestants import (
    BARE,
    ORM,
    SCOPEGATE,
    SCOPEGATE_BARE,
    SCOPEGATE_BARE_ITEM,
    SCOPEGATE_HEALTH,
    SCOPEGATE_ITEM,
    SCOPEGATE_ITEMS,
    SCOPEGATE_SCOPED,
    SERVICE,
    USERS_DATABASE,
    USERS_JWT,
)
from bench.fairness import IN, Fairness
from bench.guessing import Guessed, Names
from bench.load import percentile
from bench.report import Section
from bench.revocation import Refusals, Revocation
from bench.rounds import ratio
from bench.scale import CACHED, LOGIN, MISS, Comparison
from bench.second import EMPTY, PROTECTED, Second
from bench.storm import Storm, rise
from bench.worker import WORKERS, Worker

AT_MOST = {CACHED: 1.1, MISS: 1.5, LOGIN: 1.5}
WORKER_MB = 120
WORKERS_MB = 220
RATIOS = (
    (SCOPEGATE, BARE, 0.70),
    (SCOPEGATE_HEALTH, BARE, 0.75),
    (SCOPEGATE_SCOPED, SCOPEGATE_BARE, 0.82),
    (SCOPEGATE_ITEM, SCOPEGATE_BARE_ITEM, 0.80),
    (SCOPEGATE_ITEMS, ORM, 1.7),
    (SCOPEGATE, ORM, 9),
    (SCOPEGATE, USERS_JWT, 9),
    (SCOPEGATE, USERS_DATABASE, 9),
)
"""Answers a second of one route, over another's."""


@dataclass(frozen=True)
class Goal:
    """What is promised, what was found, and whether that is enough."""

    promise: str
    found: str
    met: bool


def goals_section(goals: Sequence[Goal]) -> Section:
    """All that could be judged in this run."""
    return Section(
        "Goals",
        "Ratios are medians over the rounds.",
        ("goal", "found", "met"),
        [(goal.promise, goal.found, "yes" if goal.met else "NO") for goal in goals],
    )


def of_contest(contest: Contest) -> Iterator[Goal]:
    """Of authorization's cost, and of the distance to others."""
    for of, to, least in RATIOS:
        value = ratio(contest.rounds, of, to).median
        yield Goal(f"{of}: at least {least:g} of {to}", f"{value:.2f}", met=value >= least)


def of_revocation(found: Sequence[Revocation]) -> Iterator[Goal]:
    """Of how soon another replica refuses."""
    for each in found:
        if each.way.name.startswith(f"{SERVICE}: "):
            yield _soon_enough(f"{each.way.name}: other replica", each.other)


def of_second(found: Second) -> Iterator[Goal]:
    """Of a second service."""
    value = ratio(found.rounds, PROTECTED, EMPTY).median
    yield Goal(
        "second service, protected route: at least 0.90 of one with an empty dependency",
        f"{value:.2f}",
        met=value >= 0.90,
    )
    yield Goal(
        f"second service: no call to Scopegate in {found.requests:,} requests "
        f"of {found.tokens:,} tokens",
        f"{found.calls:,}",
        met=found.calls == 0,
    )
    for what, refusals in found.revoked.items():
        yield _soon_enough(f"second service, {what}", refusals, median_ms=15, worst_ms=150)


def _soon_enough(
    name: str, refusals: Refusals, *, median_ms: float = 10, worst_ms: float = 100
) -> Goal:
    promise = f"{name}: median under {median_ms} ms, worst under {worst_ms} ms, none missed"
    if not refusals.seconds:
        return Goal(promise, "never refused", met=False)
    median, worst = percentile(refusals.seconds, 50), max(refusals.seconds)
    missed = refusals.tries - len(refusals.seconds)
    return Goal(
        promise,
        f"{median * 1e3:.1f} ms, {worst * 1e3:.1f} ms, {missed} missed",
        met=median * 1e3 < median_ms and worst * 1e3 < worst_ms and missed == 0,
    )


def of_guessing(names: Names, storm: Guessed) -> Iterator[Goal]:
    """Of what guessing gains."""
    yield Goal(
        "refusing an unknown name: 0.9 to 1.1 times as long as a wrong password",
        f"{names.ratio:.2f}",
        met=0.9 <= names.ratio <= 1.1,
    )
    refused = storm.owner.total() - storm.owner[200]
    yield Goal(
        f"{storm.guesses.total():,} guesses at one account: its owner signs in every time",
        f"{storm.owner[200]:,} times, refused {refused:,}",
        met=refused == 0,
    )


def of_fairness(found: Sequence[Fairness]) -> Iterator[Goal]:
    """Of what one account, or unknown names, keep from others."""
    for each in found:
        yield Goal(
            f"{each.attack}: all others sign in at the first try",
            f"{each.honest[IN]:,} of {each.honest.total():,}",
            met=each.share == 1,
        )


def of_storm(found: Storm) -> Iterator[Goal]:
    """Of what logins by the dozen do, and how many come in."""
    for percent, limit in ((50, 2), (99, 4)):
        value = rise(found.weather[SERVICE], percent=percent)
        promise = (
            f"a protected route in a storm of logins: p{percent} at most {limit} times as long"
        )
        yield Goal(promise, f"{value:.1f}", met=value <= limit)
    for threads, ratios in found.logins_over_hashes.items():
        value = statistics.median(ratios)
        hashing = "the one hashing thread" if threads == 1 else f"the {threads} hashing threads"
        least = 0.85 if threads == 1 else 0.75
        yield Goal(
            f"logins a second: at least {least} of what {hashing} could do alone",
            f"{value:.2f}",
            met=value >= least,
        )


def of_worker(found: Worker) -> Iterator[Goal]:
    """Of how soon one answers, and what it keeps."""
    value = found.slower("clock").median
    yield Goal(
        "start-up to the first answer: under 1.2 times as long as an app with the same imports",
        f"{value:.2f}",
        met=value < 1.2,
    )
    if found.work:
        yield Goal(
            f"memory of one worker after {found.work.requests:,} requests: under {WORKER_MB} MB",
            f"{found.work.at_rest / 1e6:.1f} MB",
            met=found.work.at_rest < WORKER_MB * 1e6,
        )
    if found.several:
        yield Goal(
            f"memory of {WORKERS} workers and their parent, PSS: at most {WORKERS_MB} MB",
            f"{found.several / 1e6:.1f} MB",
            met=found.several <= WORKERS_MB * 1e6,
        )


def of_scale(found: Sequence[Comparison]) -> Iterator[Goal]:
    """Of what many users cost."""
    for each in found:
        limit, value = AT_MOST[each.what], each.ratio.median
        promise = f"{each.what}: at most {limit} times as long in the large database"
        yield Goal(promise, f"{value:.2f}", met=value <= limit)
