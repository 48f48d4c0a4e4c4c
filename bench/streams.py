"""Streams: what a hundred of them do to a protected route of the process that sends them.

Each round measures the route alone, beside changes that no stream is told of, with that many
streams open, and while all of them are told of changes, there and back.
`python -m bench.streams` does it, on a Postgres of the bench's own.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

import uvloop

from bench import load
from bench.contestants import prepare_scopegate, scopegate_served
from bench.effort import FULL, QUICK, Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.load import Job, Load
from bench.peers.account import PASSWORD, USER_ID, USERNAME
from bench.postgres import URL_VARIABLE, connect, open_postgres
from bench.progress import say
from bench.report import Section
from bench.rounds import Spread, Target, aim
from bench.servers import serving
from bench.wire import HOST, PATIENCE, ask_once, request

STREAMS = 100
A_SECOND = 1000
"""Changes that are committed."""
AT_ONCE = 10
"""Changes in one transaction."""
SETTLED = 1.0
"""Seconds in which all that was committed has come, and all that was closed has ended."""
CHANGE = (
    "SELECT pg_notify('scopegate_events', 'account-enabled ' || gen_random_uuid()) "
    "FROM generate_series(1, $1::int)"
)
ALONE, CHANGING, OPEN, TOLD = (
    "no stream",
    f"no stream, {A_SECOND} changes a second",
    f"{STREAMS} streams",
    f"{STREAMS} streams, {A_SECOND} changes a second",
)
CONNECTIONS = (1, 16)


class StreamRefused(BenchmarkFailed):
    """A stream was not opened, or has ended or overflowed."""


class Reader(asyncio.Protocol):
    """Takes what a stream sends, as fast as it comes."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._tail = b""
        self.begun = asyncio.get_running_loop().create_future()
        self.told = self.forgot = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's: ask for the stream."""
        transport.write(self._raw)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Asyncio's: count the frames."""
        # A name may come in two pieces.
        data = self._tail + data
        self.told += data.count(b"event: set\n")
        self.forgot += data.count(b"event: everything\n")
        self._tail = data[-17:].rpartition(b"\n")[2]
        if not self.begun.done() and b"event: hello" in data:
            self.begun.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """Asyncio's: it was not to end."""
        if not self.begun.done():
            self.begun.set_exception(StreamRefused("the server has closed a stream"))


@dataclass
class Found:
    """The route's loads, by what else went on; and what came on the streams of what was due."""

    loads: dict[tuple[str, int], list[Load]] = field(default_factory=dict)
    due: int = 0
    told: int = 0
    overflows: int = 0

    def rise(self, what: str, connections: int) -> Spread:
        """How many times as long the p99 is as without streams, formed within each round."""
        beside = self.loads[what, connections]
        alone = self.loads[ALONE, connections]
        return Spread.of([each.p99 / base.p99 for each, base in zip(beside, alone, strict=True)])


async def measure(effort: Effort) -> Found:
    """Measure on a database of its own."""
    found = Found()
    async with open_postgres() as postgres:
        database = await postgres.create("streams")
        await prepare_scopegate(database, Population(effort.small, effort.small))
        connection = await connect(database)
        grant = "INSERT INTO grants (user_id, scope) VALUES ($1, 'read:events')"
        await connection.execute(grant, USER_ID)
        await connection.close()
        contestant = scopegate_served(database)
        async with serving(contestant.program) as server:
            target = await aim(contestant, contestant.routes[0], server.port)
            stream = await _request_of_a_stream(server.port)
            for number in range(1, effort.rounds + 1):
                ways: list[tuple[str, AbstractAsyncContextManager[None]]] = [
                    (ALONE, nullcontext()),
                    (CHANGING, _streams(server.port, stream, found, 0, changing=database)),
                    (OPEN, _streams(server.port, stream, found, STREAMS)),
                    (TOLD, _streams(server.port, stream, found, STREAMS, changing=database)),
                ]
                for what, going_on in ways if number % 2 else ways[::-1]:
                    async with going_on:
                        await _ask(target, what, effort.seconds, found)
                say(f"round {number} of {effort.rounds}")
    return found


async def _ask(target: Target, what: str, seconds: float, found: Found) -> None:
    for connections in CONNECTIONS:
        job = Job(target.port, target.requests, seconds, connections=connections)
        found.loads.setdefault((what, connections), []).append(await load.run(job))


async def _request_of_a_stream(port: int) -> bytes:
    form = {"grant_type": "password", "username": USERNAME, "password": PASSWORD}
    form["scope"] = "read:events"
    answer = await ask_once(port, request("/token", method="POST", form=form))
    return request("/events", token=answer.json()["access_token"])


@asynccontextmanager
async def _streams(
    port: int, stream: bytes, found: Found, count: int, changing: str | None = None
) -> AsyncIterator[None]:
    """Hold the streams open meanwhile, and change something all along if a database is given."""
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Reader(stream), HOST, port) for _ in range(count)
    ]
    readers = [reader for _, reader in opened]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(reader.begun for reader in readers))
    done = asyncio.Event()
    changes = asyncio.create_task(_change(changing, done)) if changing else None
    yield
    done.set()
    if changes:
        found.due += await changes * count
        await asyncio.sleep(SETTLED)
    found.told += sum(each.told for each in readers)
    found.overflows += sum(each.forgot for each in readers)
    for transport, _ in opened:
        transport.close()
    # The server notices it a moment later. Until then it opens no others.
    await asyncio.sleep(SETTLED)


async def _change(database: str, done: asyncio.Event) -> int:
    """Commit changes until it is done; how many."""
    connection, loop = await connect(database), asyncio.get_running_loop()
    began, committed = loop.time(), 0
    while not done.is_set():
        await connection.execute(CHANGE, AT_ONCE)
        committed += AT_ONCE
        await asyncio.sleep(began + committed / A_SECOND - loop.time())
    await connection.close()
    return committed


def section(found: Found) -> Section:
    """All that was found."""
    rows = []
    for what in (ALONE, CHANGING, OPEN, TOLD):
        for connections in CONNECTIONS:
            p99 = Spread.of([each.p99 * 1e3 for each in found.loads[what, connections]])
            rise = found.rise(what, connections)
            shown = f"{rise.median:.2f} ({rise.low:.2f} to {rise.high:.2f})"
            rows.append((what, str(connections), f"{p99.median:.2f} ms", shown))
    remark = (
        f"The p99 of GET /users/me, and the same over that without streams, in the same round. Of "
        f"{found.due:,} frames that were due, {found.told:,} came; "
        f"{found.overflows} streams overflowed."
    )
    return Section("Streams", remark, ("beside", "connections", "p99", "times"), rows)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shows that it works, and no more")
    effort = QUICK if parser.parse_args().quick else FULL
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_")]:
        if name != URL_VARIABLE:
            del os.environ[name]  # what is measured has the default settings
    print(f"\n{section(uvloop.run(measure(effort)))}")


if __name__ == "__main__":
    main()
