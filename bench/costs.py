"""What one answer costs: processor time, of the server and of Postgres apart, by kind of request.

Steadier than rates on a machine that does other things too: what others take is not counted.
"""

import base64
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load
from bench.contestants import SignIn, bare, scopegate_environment, scopegate_served
from bench.effort import Effort
from bench.fill import Population
from bench.load import Job
from bench.postgres import Postgres, connect
from bench.progress import say
from bench.rounds import Spread
from bench.servers import OURS, Program, Server, run_to_its_end, serving
from bench.storm import refresh_all, sign_in_all, storm_of_logins
from bench.wire import Connection, request

BARE_READ = "GET, bare FastAPI"
SERVICE = "orders"


@dataclass(frozen=True)
class Spent:
    """A piece of work: how many answers, in how many seconds, and processor seconds for them."""

    done: int
    seconds: float
    server: float
    postgres: float | None
    """None: Postgres does not run on this machine, or its processes can't be seen."""


@dataclass(frozen=True)
class Cost:
    """Microseconds of processor time for one answer, over the rounds."""

    what: str
    server: Spread
    postgres: Spread | None


@dataclass(frozen=True)
class Target:
    """A server that is asked, by a user's token and by a service account's secret."""

    server: Server
    token: str = ""
    secret: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of request."""

    ask: Callable[[Target, Any, float], Awaitable[int]]
    """Asks for so many seconds; returns how many answers there were."""
    prepare: Callable[[Server], Awaitable[Any]] | None = None
    """Makes what `ask` needs beforehand: that is not measured."""


def _repeated(raw: Callable[[Target], bytes]) -> Kind:
    async def ask(target: Target, _: None, seconds: float) -> int:
        done = await load.run(Job(target.server.port, [raw(target).decode()], seconds))
        return sum(done.statuses.values())

    return Kind(ask)


def _get(path: str) -> Kind:
    return _repeated(lambda target: request(path, token=target.token or None))


def _client_credentials(target: Target) -> bytes:
    form = {"grant_type": "client_credentials", "client_id": SERVICE}
    return request("/token", method="POST", form={**form, "client_secret": target.secret})


def _introspection(target: Target) -> bytes:
    basic = base64.b64encode(f"{SERVICE}:{target.secret}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    return request("/introspect", method="POST", headers=headers, form={"token": target.token})


async def _logins(target: Target, _: None, seconds: float) -> int:
    return (await storm_of_logins(target.server, Population(100, 100), seconds)).done


async def _refreshes(
    target: Target, sessions: Sequence[tuple[Connection, str]], seconds: float
) -> int:
    return (await refresh_all(target.server, sessions, seconds)).done


KINDS: Mapping[str, Kind] = {
    "GET /health/live": _get("/health/live"),
    "GET /users/me": _get("/users/me"),
    "GET /items": _get("/items"),
    "introspection, by a client's secret": _repeated(_introspection),
    "refreshes": Kind(_refreshes, prepare=sign_in_all),
    "client credentials": _repeated(_client_credentials),
    "logins, their hash included": Kind(_logins),
}


async def measure(postgres: Postgres, effort: Effort) -> list[Cost]:
    """Measure all kinds in each round, and a bare FastAPI route. The contest is over."""
    found: dict[str, list[Spent]] = {}
    url = postgres.url_of("scopegate")
    postmaster = await postmaster_of(url)
    async with (
        serving(scopegate_served(url).program) as ours,
        serving(bare().program) as fastapi,
    ):
        secret = await make_service([OURS, "-m", "app"], scopegate_environment(url))
        target = Target(ours, await SignIn("/token")(ours.port), secret)
        for number in range(1, effort.rounds + 1):
            say(f"costs, round {number} of {effort.rounds}")
            read = await spend(_get("/users/me"), Target(fastapi), effort.seconds, None)
            found.setdefault(BARE_READ, []).append(read)
            for what, kind in KINDS.items():
                spent = await spend(kind, target, effort.seconds, postmaster)
                found.setdefault(what, []).append(spent)
    return [_cost(what, each) for what, each in found.items()]


async def make_service(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Make a service account that may introspect; return its secret."""
    words = [*("user", "create", SERVICE, "--service", "--json"), "--scope", "introspect"]
    written = await run_to_its_end(Program([*command, *words], environment))
    secret: str = json.loads(written)["client_secret"]
    return secret


async def spend(kind: Kind, target: Target, seconds: float, postmaster: int | None) -> Spent:
    """Ask one kind of request for so long."""
    prepared = await kind.prepare(target.server) if kind.prepare else None
    server, postgres = target.server.processor_seconds(), _processor_seconds(postmaster)
    started = time.perf_counter()
    done = await kind.ask(target, prepared, seconds)
    took = time.perf_counter() - started
    spent = _processor_seconds(postmaster)
    in_postgres = None if spent is None or postgres is None else spent - postgres
    return Spent(done, took, target.server.processor_seconds() - server, in_postgres)


def _cost(what: str, rounds: list[Spent]) -> Cost:
    postgres = [1e6 * each.postgres / each.done for each in rounds if each.postgres is not None]
    server = Spread.of([1e6 * each.server / each.done for each in rounds])
    return Cost(what, server, Spread.of(postgres) if postgres else None)


async def postmaster_of(url: str) -> int | None:
    """Return the process that has started this server's others; None if it is not to be seen."""
    connection = await connect(url)
    try:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        parent = _stat(backend)
        return int(parent[1]) if parent else None
    finally:
        await connection.close()


def _processor_seconds(postmaster: int | None) -> float | None:
    """What Postgres has had of the processors, by all its processes, also those that have ended."""
    if postmaster is None:
        return None
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        stat = _stat(int(folder.name))
        if stat and int(stat[1]) == postmaster:
            ticks += int(stat[11]) + int(stat[12])
    own = _stat(postmaster)
    if own is None:
        return None
    # Its own time, and that of its children which have ended.
    return (ticks + sum(map(int, own[11:15]))) / os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str] | None:
    """Return what /proc says of a process, behind its name in brackets."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
