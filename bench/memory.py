"""What one cached principal weighs, in a process of its own that loads very many.

`measure` starts it; started so, it reads what to do from standard input and prints a `Weight`.
All that knows the cache is in `fill_cache`.
"""

import asyncio
import gc
import json
import sys
import tracemalloc
from asyncio.subprocess import PIPE, create_subprocess_exec
from dataclasses import asdict, dataclass

from app.access.principals import load_principal
from app.runtime import Runtime
from bench.contestants import scopegate_settings
from bench.fill import Population
from bench.peers.account import SCOPES
from bench.servers import OURS, ROOT, ServerFailed, environment, memory_of

WARM_UP = 500  # principals, loaded before counting: pools, caches of statements, imports


@dataclass(frozen=True)
class Weight:
    """Bytes a principal: by the process's memory, and by Python's own account of it."""

    principals: int
    rss: float | None
    traced: float


async def measure(database: str, principals: int) -> Weight:
    """Weigh that many principals, each of a session and a user of its own. Raises ServerFailed."""
    process = await create_subprocess_exec(
        *(OURS, "-m", "bench.memory"),
        cwd=ROOT,
        env=environment(),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    job = json.dumps({"database": database, "principals": principals})
    output, complaint = await process.communicate(job.encode())
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


async def weigh(database: str, principals: int) -> Weight:
    """Weigh half of them by the process's memory, then half by tracemalloc, which is slow."""
    half = (principals - WARM_UP) // 2
    population = Population(users=principals, sessions=principals)
    async with Runtime.open(scopegate_settings(database)) as runtime:
        kept = [await fill_cache(runtime, population, range(WARM_UP))]
        before = _rss()
        kept.append(await fill_cache(runtime, population, range(WARM_UP, WARM_UP + half)))
        after = _rss()
        tracemalloc.start()
        kept.append(await fill_cache(runtime, population, range(WARM_UP + half, principals)))
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    by_rss = (after - before) / half if before is not None and after is not None else None
    return Weight(principals, by_rss, traced / len(kept[-1]))


def _rss() -> int | None:
    gc.collect()
    memory = memory_of("self")
    return memory.rss if memory else None


def main() -> None:
    """What the process does."""
    weight = asyncio.run(weigh(**json.load(sys.stdin)))
    json.dump(asdict(weight), sys.stdout)


if __name__ == "__main__":
    main()
