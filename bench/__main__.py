import uvloop

from bench.contest import hold
from bench.contestants import line_up
from bench.effort import QUICK
from bench.fill import Population
from bench.postgres import open_postgres
from bench.rounds import ratio


async def main():
    async with open_postgres() as pg:
        c = await line_up(pg, Population(1000, 1000))
        r = await hold(c, QUICK)
        for n in r.rounds[0]:
            print(
                n,
                ratio(r.rounds, n, "bare FastAPI route"),
                [round(x[n].p99 * 1e3, 2) for x in r.rounds],
            )
        print(r.memory)


uvloop.run(main())
