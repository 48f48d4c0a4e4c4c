"""`make bench`: Scopegate beside what else a FastAPI team could use, measured in one go."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import (
    against,
    contest,
    costs,
    fairness,
    goals,
    guessing,
    memory,
    report,
    scale,
    second,
    storm,
    strangers,
    ways,
    worker,
)
from bench.contestants import line_up, prepare_scopegate
from bench.effort import FULL, QUICK, Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.goals import Goal
from bench.memory import Weight
from bench.postgres import PREFIX, URL_VARIABLE, Postgres, open_postgres
from bench.progress import say
from bench.report import Section
from bench.servers import PEERS

PARTS = (
    *("contest", "costs", "revocation", "second", "storm", "guessing", "fairness"),
    *("worker", "memory", "scale", "strangers"),
)
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    """Read the arguments, measure, print, and write what a full run found."""
    arguments = _parser().parse_args()
    effort = QUICK if arguments.quick else FULL
    parts = arguments.only or PARTS
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_")]:
        if name != URL_VARIABLE:
            del os.environ[name]  # what is measured has the default settings
    try:
        if arguments.against:
            print(uvloop.run(_measure_against(arguments.against.resolve(), effort)))
            return
        if not Path(PEERS).exists():
            sys.exit("The peers are not installed: run make bench")
        results = uvloop.run(_measure(parts, effort))
    except BenchmarkFailed as failure:
        sys.exit(f"The benchmark has failed, nothing was written. {failure}")
    if effort is FULL and set(parts) == set(PARTS):
        RESULTS.write_text(results)
        print("Written to bench/RESULTS.md")
    else:
        print("Not written: bench/RESULTS.md is for a full run of all parts")


async def _measure(parts: Sequence[str], effort: Effort) -> str:
    """Measure these parts, printing what is found as it comes; return all of it."""
    sections: list[Section] = []
    judged: list[Goal] = []

    def show(*found: Section) -> None:
        sections.extend(found)
        for section in found:
            print(f"\n{section}\n", flush=True)

    population = Population(effort.small, effort.small)
    async with open_postgres() as postgres:
        contestants = await line_up(postgres, population)
        if "contest" in parts:
            held = await contest.hold(contestants, effort)
            show(*report.contest_sections(held, effort))
            judged += goals.of_contest(held)
        if "costs" in parts:
            show(report.costs_section(await costs.measure(postgres, effort)))
        if "revocation" in parts:
            revoked = await ways.try_all(postgres, population, effort)
            show(report.revocation_section(revoked))
            judged += goals.of_revocation(revoked)
        if "second" in parts:
            beside = await second.measure_second(postgres, effort)
            show(*report.second_sections(beside, effort))
            judged += goals.of_second(beside)
        if "storm" in parts:
            brewed = await storm.brew(postgres, population, effort)
            show(*report.storm_sections(brewed))
            judged += goals.of_storm(brewed)
        if "guessing" in parts:
            guessed = await guessing.guess(postgres, population, effort)
            show(report.guessing_section(*guessed))
            judged += goals.of_guessing(*guessed)
        if "fairness" in parts:
            queued = await fairness.queue_up(postgres, population, effort)
            show(report.fairness_section(queued))
            judged += goals.of_fairness(queued)
        if "worker" in parts:
            examined = await worker.examine(postgres, population, effort)
            show(*report.worker_sections(examined))
            judged += goals.of_worker(examined)
        if "memory" in parts:
            show(report.memory_section(await _weigh(postgres, effort)))
        if "scale" in parts:
            compared = await scale.compare(postgres, effort)
            show(report.scale_section(compared, effort))
            judged += goals.of_scale(compared)
        if "strangers" in parts:
            show(report.strangers_section(await strangers.measure(postgres, population, effort)))
        introduction = report.introduction(effort, postgres.name)
    show(goals.goals_section(judged))
    # The goals are what one looks for first, in a file; and last, in a terminal.
    return "\n\n".join([introduction, *map(str, sections[-1:] + sections[:-1])]) + "\n"


async def _measure_against(checkout: Path, effort: Effort) -> Section:
    async with open_postgres() as postgres:
        return report.against_section(await against.compare(postgres, checkout, effort), checkout)


async def _weigh(postgres: Postgres, effort: Effort) -> list[Weight]:
    population = Population(effort.remembered, effort.remembered)
    database = await postgres.create("memory")
    await prepare_scopegate(database, population)
    found = []
    for what in memory.FILLINGS:
        say(f"weighing {effort.remembered:,} remembered sessions: {what}")
        found.append(await memory.measure(database, what, effort.remembered))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog=f"""\
parts:
  contest     throughput, latency and memory of all contestants, round by round
  costs       processor time for one answer, of the server and of Postgres, by kind of request
  revocation  how soon a revoked token is refused, on the same replica and on another
  second      a second service that uses scopegate-client: its check, its calls, revocation there
  guessing    whether the time tells which names exist; {FULL.guesses:,} guesses at one account
  fairness    whether others can sign in while one account or unknown names fill the queue
  storm       what logins by the dozen do to others; logins and refreshes a core
  worker      how soon one answers; its memory after {FULL.requests:,} requests
  scale       {FULL.small:,} users against {FULL.large:,}
  memory      what one remembered session weighs
  strangers   what the worst requests without a token cost the event loop

--against measures another checkout of Scopegate beside this one, in place of the parts.

With make, arguments go into ARGS: make bench ARGS="--quick --only contest"
A Postgres of the bench's own is started and removed again. {URL_VARIABLE}
names another server, by a superuser's URL: databases {PREFIX}… are made on it.""",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="little data and short rounds: shows that all works, measures next to nothing",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        metavar="PART",
        help=f"measure this part only ({', '.join(PARTS)}); may be repeated",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="measure only what takes longer or shorter here than in that other checkout",
    )
    return parser


if __name__ == "__main__":
    main()
