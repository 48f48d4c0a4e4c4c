"""The tables, printed and written: ratios first, since absolute numbers are the machine's."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from os import cpu_count
from pathlib import Path

from bench.against import Against
from bench.contest import Contest
from bench.contestants import (
    BARE,
    PEER_NAMES,
    SCOPEGATE,
    SCOPEGATE_OFF,
    UNPROTECTED,
)
from bench.costs import Cost as AnswerCost
from bench.effort import Effort
from bench.fairness import ATTACKERS, Fairness
from bench.guessing import GUESSERS, UNKNOWN, WRONG, Guessed, Names
from bench.load import CONNECTIONS, percentile
from bench.memory import Weight
from bench.revocation import BOUND, Refusals, Revocation
from bench.rounds import Spread, ratio
from bench.scale import Comparison
from bench.second import PROTECTED, UNGUARDED, Second
from bench.storm import KEYCLOAK, STORMERS, THREADS, Storm, Weather, Yield, rise
from bench.strangers import Cost
from bench.worker import REST, WORKERS, Work, Worker

Row = Sequence[str]
SHOWN = 0.5
"""Milliseconds beyond a plain request."""


@dataclass(frozen=True)
class Section:
    """A table under a heading, with a word on how to read it."""

    heading: str
    remark: str
    head: Row
    rows: Sequence[Row]

    def __str__(self) -> str:
        return f"## {self.heading}\n\n{self.remark}\n\n{table(self.head, self.rows)}"


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table whose columns line up, so that it reads well in a terminal too."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    marks = ["-" * width for width in widths]
    return "\n".join(
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in [head, marks, *rows]
    )


def introduction(effort: Effort, server: str) -> str:
    """What it was measured on."""
    return (
        "# Results\n\n"
        f"A {effort.name} run of `make bench`: Python {platform.python_version()}, "
        f"{platform.system()} on {platform.machine()}, {cpu_count()} cores, on {server}; "
        f"FastAPI {version('fastapi')}, uvicorn {version('uvicorn')}. "
        "What is measured and how to read it: [README.md](README.md)."
    )


def contest_sections(contest: Contest, effort: Effort) -> list[Section]:
    """Throughput as ratios; then the same in plain numbers."""
    rounds = contest.rounds
    return [
        Section(
            "Throughput against the bare route",
            f"Answers a second over the bare FastAPI route's in the same round; {len(rounds)} "
            f"rounds of {effort.seconds:g} s a route, {CONNECTIONS} connections, one worker each.",
            ("route", *_SPREAD),
            [(name, *_spread(ratio(rounds, name, BARE))) for name in rounds[0]],
        ),
        Section(
            "Authorization: Scopegate against its own routes without it",
            "In the same server, the same model in the answer, and for the item the same SELECT.",
            ("route", "over", *_SPREAD),
            [(of, to, *_spread(ratio(rounds, of, to))) for of, to in UNPROTECTED],
        ),
        Section(
            "Scopegate against the others",
            "`GET /users/me`: how many times as many answers a second.",
            ("over", *_SPREAD),
            [
                (name, *_spread(ratio(rounds, SCOPEGATE, name)))
                for name in (*PEER_NAMES, SCOPEGATE_OFF)
            ],
        ),
        Section(
            "Plain numbers",
            "For once, and of this machine only: medians of the rounds. Memory is that of the one "
            "worker after the run.",
            ("route", "answers/s", "p50 ms", "p99 ms", "RSS MiB", "PSS MiB"),
            [_plain(contest, name) for name in rounds[0]],
        ),
    ]


def revocation_section(found: Sequence[Revocation]) -> Section:
    """How soon a revoked token is refused."""
    return Section(
        "Revocation",
        "Milliseconds from the revoking call's answer to the first refusal, on the replica that "
        "took the call and on another; asked one request after another, so the least that can be "
        "seen is one request's time. Missed: let in until it would have expired anyway, or for "
        f"{BOUND:g} s.",
        ("revoked by", "replica", "tries", "median", "p99", "worst", "missed"),
        [
            (each.way.name, replica, *_refusals(refusals))
            for each in found
            for replica, refusals in (("same", each.same), ("other", each.other))
        ],
    )


def second_sections(second: Second, effort: Effort) -> list[Section]:
    """What the package's check costs, and how soon it refuses what Scopegate has taken away."""
    return [
        Section(
            "A second service: its protected route",
            "Answers a second over those of another route of the same service in the same round; "
            f"{len(second.rounds)} rounds of {effort.seconds:g} s. While it answered "
            f"{second.requests:,} requests by {second.tokens:,} tokens, which it saw for the first "
            f"time, Scopegate got {second.calls:,} requests from it.",
            ("route", "over", *_SPREAD),
            [(PROTECTED, to, *_spread(ratio(second.rounds, PROTECTED, to))) for to in UNGUARDED],
        ),
        Section(
            "A second service: revocation",
            "Milliseconds from the answer of what takes something away at Scopegate to the first "
            "refusal by the second service, asked one request after another.",
            ("what", "tries", "median", "p99", "worst", "missed"),
            [(what, *_refusals(refusals)) for what, refusals in second.revoked.items()],
        ),
    ]


def guessing_section(names: Names, storm: Guessed) -> Section:
    """What refused logins take, and those of an account's owner while others guess at it."""
    guessed = storm.guesses
    return Section(
        "Guessing",
        f"Logins in ms. Unknown names over wrong passwords: {names.ratio:.3f}. In the storm "
        f"{guessed.total():,} guesses at one account came from {GUESSERS} addresses: "
        f"{guessed[400]:,} were checked, {guessed[429]:,} refused unchecked.",
        ("login", "tries", "median", "p99"),
        [
            _times(UNKNOWN, names.unknown),
            _times(WRONG, names.wrong),
            _times("the owner's, in the storm", storm.owner_seconds),
        ],
    )


def _times(what: str, seconds: Sequence[float]) -> Row:
    values = (percentile(seconds, percent) for percent in (50, 99))
    return what, f"{len(seconds):,}", *(f"{value * 1e3:.1f}" for value in values)


def fairness_section(found: Sequence[Fairness]) -> Section:
    """How many others got in while an attack filled the queue."""
    return Section(
        "Fairness",
        f"Logins by others, each as another user from another address, while {ATTACKERS} "
        "connections sign in without a pause; median and 99th percentile in ms.",
        ("attack", "its logins", "others' logins", "got in", "median, p99"),
        [
            (
                each.attack,
                f"{each.attackers.total():,}",
                f"{each.honest.total():,}",
                f"{each.share:.0%}",
                each.times(),
            )
            for each in found
        ],
    )


def against_section(found: Sequence[Against], checkout: Path) -> Section:
    """Show what became slower or faster."""
    return Section(
        f"Against {checkout.name}",
        "What a piece of work takes here over what it takes there: median, lowest and highest of "
        "the rounds. Under 1 is faster. Processor: of the server alone, and of Postgres too.",
        ("work", "by the clock", "server", "server and Postgres"),
        [
            (
                each.what,
                _range(each.by_clock),
                _range(each.by_server),
                _range(each.by_all) if each.by_all else "",
            )
            for each in found
        ],
    )


def costs_section(found: Sequence[AnswerCost]) -> Section:
    """Show what one answer costs."""
    return Section(
        "What an answer costs",
        "Microseconds of processor time for one answer: median, lowest and highest of the rounds.",
        ("answer", "server", "Postgres"),
        [
            (
                each.what,
                _range(each.server, digits=0),
                _range(each.postgres, digits=0) if each.postgres else "",
            )
            for each in found
        ],
    )


def _range(spread: Spread, *, digits: int = 2) -> str:
    values = (f"{each:,.{digits}f}" for each in (spread.median, spread.low, spread.high))
    return "{} ({} to {})".format(*values)


def storm_sections(found: Storm) -> list[Section]:
    """What a storm of logins does to everybody else; and how much a core does."""
    return [
        Section(
            "A storm of logins",
            f"`GET /users/me` over one connection in ms, alone and with {STORMERS} connections "
            "that sign in; times: the medians of the rounds' ratios.",
            ("server", "p50", "in the storm", "times", "p99", "in the storm", "times", "logins/s"),
            [_weather(name, rounds) for name, rounds in found.weather.items()],
        ),
        Section(
            "What a core does",
            f"With {THREADS} hashing threads. A core: what the server's process did over the "
            "processor time that it took; Postgres has its own. Keycloak's are its published "
            "figures for a vCPU, without its database either. Logins over what the same threads "
            f"hash alone: {_over_hashes(found)}.",
            ("what", "a second", "a second and core", "Keycloak's", "times"),
            [_yield(what, rounds) for what, rounds in found.yields.items()],
        ),
    ]


def _over_hashes(found: Storm) -> str:
    each = [
        f"{statistics.median(ratios):.2f} with {threads}"
        for threads, ratios in found.logins_over_hashes.items()
    ]
    return ", ".join(each)


def _weather(name: str, rounds: Sequence[Weather]) -> Row:
    cells = [name]
    for percent in (50, 99):
        for loads in ([each.calm for each in rounds], [each.storm for each in rounds]):
            value = statistics.median(getattr(each, f"p{percent}") for each in loads)
            cells.append(f"{value * 1e3:.2f}")
        cells.append(f"{rise(rounds, percent=percent):.1f}")
    return *cells, f"{statistics.median(each.logins.throughput for each in rounds):.0f}"


def _yield(what: str, rounds: Sequence[Yield]) -> Row:
    a_second = statistics.median(each.a_second for each in rounds)
    a_core = statistics.median(each.a_core for each in rounds)
    theirs = KEYCLOAK[what]
    return what, f"{a_second:,.0f}", f"{a_core:,.0f}", f"{theirs:,.0f}", f"{a_core / theirs:.1f}"


def worker_sections(found: Worker) -> list[Section]:
    """How soon a worker answers, and what it holds."""
    sections = [
        Section(
            "Start-up to the first answer",
            "`scopegate serve` over a FastAPI app with the same imports that asks the database "
            f"once; {len(found.starts)} rounds, both in each.",
            ("time", *_SPREAD, "s", "the other's s"),
            [_start(what, found, key) for what, key in _START_TIMES],
        )
    ]
    if found.work:
        sections.append(
            Section(
                "Memory of one worker",
                f"`scopegate serve`, its RSS in MB of 1,000,000 bytes, after {_work(found.work)}: "
                f"at the start, at the most, and after {REST:g} s without a request.",
                ("at the start", "at the most", "at rest"),
                [[f"{each / 1e6:.1f}" for each in found.work.held]],
            )
        )
    if found.several:
        sections.append(
            Section(
                "Memory of several workers",
                f"`scopegate serve --workers {WORKERS}`, the PSS of all its processes in MB, after "
                f"logins, cached requests and {REST:g} s without a request.",
                ("together", "for each worker"),
                [[f"{found.several / each / 1e6:.1f}" for each in (1, WORKERS)]],
            )
        )
    return sections


_START_TIMES = (("by the clock", "clock"), ("of a processor", "processor"))


def _start(what: str, found: Worker, key: str) -> Row:
    ours, others = (
        statistics.median(getattr(start, key) for start in starts)
        for starts in zip(*found.starts, strict=True)
    )
    return what, *_spread(found.slower(key)), f"{ours:.2f}", f"{others:.2f}"


def _work(work: Work) -> str:
    return (
        f"{work.cached:,} cached requests, {work.logins:,} logins and {work.refreshes:,} refreshes"
    )


def scale_section(found: Sequence[Comparison], effort: Effort) -> Section:
    """What a thousand times as many users cost."""
    return Section(
        f"Scale: {effort.large:,} users against {effort.small:,}",
        "With 5 grants each. Time in the large database over time in the small one.",
        ("what", *_SPREAD, f"ms at {effort.small:,}", f"ms at {effort.large:,}"),
        [
            (each.what, *_spread(each.ratio), f"{each.small * 1e3:.3f}", f"{each.large * 1e3:.3f}")
            for each in found
        ],
    )


def memory_section(found: Sequence[Weight]) -> Section:
    """What a remembered session weighs."""
    return Section(
        "Memory of a remembered session",
        "Each of a user of its own, with 5 grants. Bytes a session.",
        ("what is remembered", "sessions", "by RSS", "by tracemalloc"),
        [
            (each.what, f"{each.sessions:,}", _bytes(each.rss), _bytes(each.traced))
            for each in found
        ],
    )


def strangers_section(costs: Sequence[Cost]) -> Section:
    """Return what requests without good credentials cost the event loop, the worst last."""
    shown = [cost for cost in costs if cost.beyond >= SHOWN] or list(costs[-20:])
    return Section(
        "Requests of strangers",
        f"{len(costs)} requests, each with the worst input that fits, in the server's own process. "
        "The event loop's processor time; *beyond* is what it takes more than the same request "
        f"with little input. Those from {SHOWN} ms on, else the worst twenty; the worst last.",
        ("route", "input", "bytes", "status", "ms", "ms beyond"),
        [
            (
                each.route,
                each.input,
                f"{each.size:,}",
                str(each.status or ""),
                f"{each.milliseconds:.2f}",
                f"{each.beyond:.2f}",
            )
            for each in shown
        ],
    )


def _bytes(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


_SPREAD = ("median", "min", "max")


def _spread(spread: Spread) -> Row:
    return f"{spread.median:.2f}", f"{spread.low:.2f}", f"{spread.high:.2f}"


def _plain(contest: Contest, name: str) -> Row:
    loads = [each[name] for each in contest.rounds]
    memory = contest.memory.get(name)
    return (
        name,
        f"{Spread.of([load.throughput for load in loads]).median:,.0f}",
        f"{Spread.of([load.p50 for load in loads]).median * 1e3:.2f}",
        f"{Spread.of([load.p99 for load in loads]).median * 1e3:.2f}",
        f"{memory.rss / 2**20:.0f}" if memory else "",
        f"{memory.pss / 2**20:.0f}" if memory else "",
    )


def _refusals(refusals: Refusals) -> Row:
    tries, missed = f"{refusals.tries:,}", f"{refusals.missed:,}"
    if refusals.expired:
        # Shown by trying: refused, but no sooner than an unrevoked token would have been.
        longest = f"until expiry, {max(refusals.expired):.1f} s"
        return tries, longest, longest, longest, f"{len(refusals.expired):,}"
    if not refusals.seconds:
        return tries, "never", "never", "never", missed
    values = (percentile(refusals.seconds, percent) for percent in (50, 99, 100))
    return tries, *(f"{value * 1e3:,.1f}" for value in values), missed
