"""`make bench`: Scopegate beside what else a FastAPI team could use, measured in one go."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench import contest, goals, memory, report, scale, ways
from bench.contestants import NotSignedIn, line_up, prepare_scopegate
from bench.effort import FULL, QUICK, Effort
from bench.fill import Population
from bench.goals import Goal
from bench.load import WrongAnswer
from bench.postgres import PREFIX, URL_VARIABLE, Postgres, open_postgres
from bench.progress import say
from bench.report import Section
from bench.revocation import NeverLetIn
from bench.rounds import NotComparable
from bench.servers import ServerFailed

PARTS = ("contest", "revocation", "memory", "scale")
RESULTS = Path(__file__).with_name("RESULTS.md")
FAILURES = (NeverLetIn, NotComparable, NotSignedIn, ServerFailed, WrongAnswer)


def main() -> None:
    """Read the arguments, measure, print, and write what a full run found."""
    arguments = _parser().parse_args()
    effort = QUICK if arguments.quick else FULL
    parts = arguments.only or PARTS
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_")]:
        if name != URL_VARIABLE:
            del os.environ[name]  # what is measured has the default settings
    try:
        results = uvloop.run(_measure(parts, effort))
    except FAILURES as failure:
        sys.exit(f"The benchmark has failed, nothing was written. {failure}")
    print(f"\n{results}")
    if effort is FULL and set(parts) == set(PARTS):
        RESULTS.write_text(results)
        print("Written to bench/RESULTS.md")
    else:
        print("Not written: bench/RESULTS.md is for a full run of all parts")


async def _measure(parts: Sequence[str], effort: Effort) -> str:
    sections: list[Section] = []
    judged: list[Goal] = []
    population = Population(effort.small, effort.small)
    async with open_postgres() as postgres:
        contestants = await line_up(postgres, population)
        if "contest" in parts:
            held = await contest.hold(contestants, effort)
            sections += report.contest_sections(held, effort)
            judged += goals.of_contest(held)
        if "revocation" in parts:
            revoked = await ways.try_all(postgres, population, effort)
            sections.append(report.revocation_section(revoked))
            judged += goals.of_revocation(revoked)
        if "scale" in parts:
            compared = await scale.compare(postgres, effort)
            sections.append(report.scale_section(compared, effort))
            judged += goals.of_scale(compared)
        if "memory" in parts:
            sections.append(report.memory_section(await _weigh(postgres, effort)))
        sections.insert(0, goals.goals_section(judged))
        texts = [report.front_matter(effort, postgres.name), *map(str, sections)]
    return "\n\n".join(texts) + "\n"


async def _weigh(postgres: Postgres, effort: Effort) -> memory.Weight:
    say("weighing cached principals")
    population = Population(effort.principals, effort.principals)
    database = await postgres.create("memory")
    await prepare_scopegate(database, population)
    return await memory.measure(database, effort.principals)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog=f"""\
parts:
  contest     throughput, latency and memory of all contestants, round by round
  revocation  how soon a revoked token is refused, on the same replica and on another
  scale       {FULL.small:,} users against {FULL.large:,}
  memory      what one cached principal weighs

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
    return parser


if __name__ == "__main__":
    main()
