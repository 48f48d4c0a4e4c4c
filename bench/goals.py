"""The goals that Scopegate has set itself, and whether this run meets them."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.contest import Contest
from bench.contestants import (
    ORM,
    ORM_PING,
    SCOPEGATE,
    SERVICE,
    UNPROTECTED,
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
from bench.storm import Storm, rise
from bench.worker import Worker

AT_MOST = {CACHED: 1.1, MISS: 1.5, LOGIN: 1.5}
WORKER_MB = 120


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
    for of, to in UNPROTECTED:
        value = ratio(contest.rounds, of, to).median
        yield Goal(f"{of}: at least 0.80 of {to}", f"{value:.2f}", met=value >= 0.80)
    for peer in (ORM, ORM_PING, USERS_JWT, USERS_DATABASE):
        value = ratio(contest.rounds, SCOPEGATE, peer).median
        yield Goal(f"{SCOPEGATE}: at least 10 times {peer}", f"{value:.1f}", met=value >= 10)


def of_revocation(found: Sequence[Revocation]) -> Iterator[Goal]:
    """Of how soon another replica refuses."""
    for each in found:
        if each.way.name.startswith(f"{SERVICE}: "):
            yield _soon_enough(each.way.name, each.other)


def _soon_enough(name: str, refusals: Refusals) -> Goal:
    promise = f"{name}: other replica, median under 10 ms, worst under 100 ms, none missed"
    if not refusals.seconds:
        return Goal(promise, "never refused", met=False)
    median, worst = percentile(refusals.seconds, 50), max(refusals.seconds)
    missed = refusals.tries - len(refusals.seconds)
    return Goal(
        promise,
        f"{median * 1e3:.1f} ms, {worst * 1e3:.1f} ms, {missed} missed",
        met=median < 0.010 and worst < 0.100 and missed == 0,
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
    for percent, limit in ((50, 2), (99, 6)):
        value = rise(found.weather[SERVICE], percent=percent)
        promise = (
            f"a protected route in a storm of logins: p{percent} at most {limit} times as long"
        )
        yield Goal(promise, f"{value:.1f}", met=value <= limit)
    for threads, ratios in found.logins_over_hashes.items():
        value = statistics.median(ratios)
        hashing = "the one hashing thread" if threads == 1 else f"the {threads} hashing threads"
        yield Goal(
            f"logins a second: at least 0.85 of what {hashing} could do alone",
            f"{value:.2f}",
            met=value >= 0.85,
        )


def of_worker(found: Worker) -> Iterator[Goal]:
    """Of how soon one answers, and what it keeps."""
    value = found.slower("clock").median
    yield Goal(
        "start-up to the first answer: under 2 times as long as an app with the same imports",
        f"{value:.2f}",
        met=value < 2,
    )
    if found.work:
        yield Goal(
            f"memory of one worker after {found.work.requests:,} requests: under {WORKER_MB} MB",
            f"{found.work.at_rest / 1e6:.1f} MB",
            met=found.work.at_rest < WORKER_MB * 1e6,
        )


def of_scale(found: Sequence[Comparison]) -> Iterator[Goal]:
    """Of what many users cost."""
    for each in found:
        limit, value = AT_MOST[each.what], each.ratio.median
        promise = f"{each.what}: at most {limit} times as long in the large database"
        yield Goal(promise, f"{value:.2f}", met=value <= limit)
