"""What one remembered session weighs, in a process of its own that remembers very many.

`measure` starts it; started so, it reads what to do from standard input and prints a `Weight`.
All that knows the caches is in `FILLINGS`.
"""

import asyncio
import gc
import json
import sys
import tracemalloc
import uuid
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta

from app.ops.background import background_work
from app.runtime import Runtime
from app.server.memory import trim_heap
from app.tokens.jwt import Claims
from bench.contestants import scopegate_settings
from bench.fill import Population
from bench.peers.account import SCOPES
from bench.servers import OURS, ROOT, ServerFailed, environment, memory_of

WARM_UP = 500  # sessions, remembered before counting: pools, caches of statements, imports
PRINCIPAL, WITH_TOKEN = "principal", "principal and verified token"


@dataclass(frozen=True)
class Weight:
    """Bytes a session: by the process's memory, and by Python's own account of it."""

    what: str
    sessions: int
    rss: float | None
    traced: float


async def measure(database: str, what: str, sessions: int) -> Weight:
    """Weigh that many sessions, each of a user of its own. Raises ServerFailed."""
    process = await create_subprocess_exec(
        *(OURS, "-m", "bench.memory"),
        cwd=ROOT,
        env=environment(),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    job = json.dumps({"database": database, "what": what, "sessions": sessions})
    output, complaint = await process.communicate(job.encode())
    if process.returncode != 0:
        raise ServerFailed(complaint.decode())
    return Weight(**json.loads(output))


async def remember_principal(runtime: Runtime, population: Population, number: int) -> None:
    """Have the principal of that session in the cache."""
    principal = await runtime.principals.find(
        population.session_id(number),
        user_id=population.user_id(population.owner(number)),
        token_scopes=frozenset(SCOPES),
        now=runtime.now(),
    )
    assert principal is not None


async def remember_token(runtime: Runtime, population: Population, number: int) -> None:
    """Have a token of that session in the cache, and its principal."""
    now = runtime.now()
    claims = Claims(
        subject=population.user_id(population.owner(number)),
        session_id=population.session_id(number),
        client_id="scopegate",
        scopes=frozenset(SCOPES),
        issued_at=now,
        expires_at=now + timedelta(hours=1),
        token_id=uuid.uuid4(),
    )
    token = runtime.issuer.jwt.encode(claims)
    await runtime.access_tokens.verify(token, now=now)


FILLINGS: dict[str, Callable[[Runtime, Population, int], Awaitable[None]]] = {
    PRINCIPAL: remember_principal,
    WITH_TOKEN: remember_token,
}


async def weigh(database: str, what: str, sessions: int) -> Weight:
    """Weigh half of them by the process's memory, then half by tracemalloc, which is slow."""
    population = Population(users=sessions, sessions=sessions)
    middle = (WARM_UP + sessions) // 2
    settings = scopegate_settings(database, cache_size=str(sessions))
    async with Runtime.open(settings) as runtime, background_work(runtime, trim_heap):
        while not runtime.feed.fresh():  # noqa: ASYNC110 - there is nothing to wait for it by
            await asyncio.sleep(0.01)

        async def remember(numbers: Iterable[int]) -> None:
            for number in numbers:
                await FILLINGS[what](runtime, population, number)
            gc.collect()

        await remember(range(WARM_UP))
        before = memory_of("self")
        await remember(range(WARM_UP, middle))
        after = memory_of("self")
        tracemalloc.start()
        await remember(range(middle, sessions))
        traced, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(runtime.principals) == sessions, "not all were remembered"
    rss = (after.rss - before.rss) / (middle - WARM_UP) if before and after else None
    return Weight(what, sessions, rss, traced / (sessions - middle))


def main() -> None:
    """What the process does."""
    weight = asyncio.run(weigh(**json.load(sys.stdin)))
    json.dump(asdict(weight), sys.stdout)


if __name__ == "__main__":
    main()
