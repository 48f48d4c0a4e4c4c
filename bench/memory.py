"""What one cached principal weighs, in a process of its own that loads very many.

`measure` starts it; started so, it prints a `Weight`. All that knows the cache is in `fill_cache`.
"""

import asyncio
import gc
import json
import sys
import tracemalloc
from asyncio.subprocess import PIPE, create_subprocess_exec
from dataclasses import asdict, dataclass
from pathlib import Path

from app.access.principals import load_principal
from app.runtime import Runtime
from bench.contestants import scopegate_settings
from bench.fill import Population
from bench.peers.account import SCOPES
from bench.servers import OURS, ROOT, ServerFailed, environment

WARM_UP = 500  # principals, loaded before counting: pools, caches of statements, imports


@dataclass(frozen=True)
class Weight:
    """Bytes a principal: by the process's memory, and by Python's own account of it."""

    principals: int
    rss: float | None
    traced: float


async def measure(database: str, population: Population, principals: int) -> Weight:
    """Weigh that many principals, each of a session of its own. Raises ServerFailed."""
    arguments = (database, str(population.users), str(population.sessions), str(principals))
    process = await create_subprocess_exec(
        *(OURS, "-m", "bench.memory", *arguments),
        cwd=ROOT,
        env=environment(),
        stdout=PIPE,
        stderr=PIPE,
    )
    output, complaint = await process.communicate()
    if process.returncode != 0:
        raise ServerFailed(complaint.decode())
    return Weight(**json.loads(output))


async def fill_cache(runtime: Runtime, population: Population, numbers: range) -> list[object]:
    """Load the principals of these sessions; what is returned keeps them in memory.

    Until there is a cache, a list holds them: that is what the principals alone weigh.
    """
    return [
        await load_principal(
            runtime.sessions,
            session_id=population.session_id(number),
            user_id=population.user_id(population.owner(number)),
            token_scopes=frozenset(SCOPES),
            now=runtime.now(),
        )
        for number in numbers
    ]


async def weigh(database: str, population: Population, principals: int) -> Weight:
    """Half of them are weighed by the process's memory, then half by tracemalloc, which slows."""
    async with Runtime.open(scopegate_settings(database)) as runtime:
        half = (principals - WARM_UP) // 2
        kept = [await fill_cache(runtime, population, range(WARM_UP))]
        before = _rss()
        kept.append(await fill_cache(runtime, population, range(WARM_UP, WARM_UP + half)))
        after = _rss()
        gc.collect()
        tracemalloc.start()
        last = range(WARM_UP + half, WARM_UP + 2 * half)
        kept.append(await fill_cache(runtime, population, last))
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    by_rss = (after - before) / half if before is not None and after is not None else None
    return Weight(sum(map(len, kept)), by_rss, traced / half)


def _rss() -> int | None:
    gc.collect()
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


def main() -> None:
    """What the process does."""
    database, *numbers = sys.argv[1:]
    users, sessions, principals = map(int, numbers)
    weight = asyncio.run(weigh(database, Population(users, sessions), principals))
    json.dump(asdict(weight), sys.stdout)


if __name__ == "__main__":
    main()
