"""The contest: all contestants run at once, and their routes are measured in turn."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from bench.contestants import Contestant
from bench.effort import Effort
from bench.progress import say
from bench.rounds import Round, aim, measure
from bench.servers import Memory, serving


@dataclass(frozen=True)
class Contest:
    """What was found, by the name of the route; memory by that of a contestant's first one."""

    rounds: list[Round]
    memory: dict[str, Memory | None]


async def hold(contestants: list[Contestant], effort: Effort) -> Contest:
    """Measure every route of every contestant."""
    async with AsyncExitStack() as stack:
        servers, targets = [], []
        for contestant in contestants:
            say(f"starting: {contestant.name}")
            server = await stack.enter_async_context(serving(contestant.program))
            servers.append((contestant.routes[0].name, server))
            targets += [await aim(contestant, route, server.port) for route in contestant.routes]
        rounds = await measure(targets, rounds=effort.rounds, seconds=effort.seconds)
        return Contest(rounds, {name: server.memory() for name, server in servers})
