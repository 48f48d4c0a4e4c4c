"""A second service that uses scopegate-client: what its check costs, and how soon it refuses."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench import load
from bench.contestants import scopegate_environment
from bench.effort import Effort
from bench.errors import BenchmarkFailed
from bench.load import Job
from bench.peers.second_service import (
    ARCHIVE,
    ARCHIVE_PATH,
    BARE_PATH,
    EMPTY_PATH,
    FRESH_PATH,
    ORDERS_PATH,
)
from bench.postgres import Postgres, connect
from bench.progress import say
from bench.revocation import Refusals, Way, measure
from bench.rounds import Round, Target
from bench.rounds import measure as measure_rounds
from bench.servers import OURS, PORT, Program, run_to_its_end, serving, uvicorn
from bench.wire import HOST, PATIENCE, ask_once, request

FOLLOWER, CALLER, ADMIN = "second-service", "caller", "second-admin"
METRICS_TOKEN = "a-token-for-the-metrics-of-the-benchmark"
BARE, EMPTY, PROTECTED = "bare route", "with an empty dependency", "protected by the package"
UNGUARDED = (EMPTY, BARE)
FOLLOWING_WITHIN = 10.0
"""Seconds in which the second service must have begun to follow the stream."""


class NoStream(BenchmarkFailed):
    """The second service does not follow Scopegate's changes."""


@dataclass(frozen=True)
class Second:
    """What was found."""

    rounds: list[Round]
    tokens: int
    requests: int
    calls: int
    """To Scopegate, while these requests with these tokens were answered."""
    revoked: dict[str, Refusals]
    """By what was done."""


@dataclass(frozen=True)
class Account:
    """A service account."""

    id: str
    secret: str


@dataclass(frozen=True)
class Beside:
    """Scopegate, a second service beside it, and who uses them."""

    scopegate: int
    """Its port, as the next one's."""
    second: int
    caller: Account
    admin: Account
    admin_token: str
    database: asyncpg.Connection

    async def token(self) -> str:
        """A new token of the caller's."""
        return await _sign_in(self.scopegate, CALLER, self.caller, "read:orders")

    async def administer(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> None:
        """Change something at Scopegate. Raises BenchmarkFailed."""
        raw = request(path, method=method, token=self.admin_token, document=body)
        answer = await ask_once(self.scopegate, raw)
        if answer.status >= 300:
            raise BenchmarkFailed(f"{method} {path} answered {answer.status}: {answer.body!r}")

    async def calls(self) -> float:
        """How many requests Scopegate has answered; those for its metrics are not counted."""
        answer = await ask_once(self.scopegate, request("/metrics", token=METRICS_TOKEN))
        counts = [
            float(line.rpartition(" ")[2])
            for line in answer.body.decode().splitlines()
            if line.startswith("scopegate_request_duration_seconds_count{")
            and 'route="/metrics"' not in line
        ]
        return sum(counts)


async def measure_second(postgres: Postgres, effort: Effort) -> Second:
    """Measure all of it, on the database of the contest, which is over."""
    async with _side_by_side(postgres.url_of("scopegate")) as beside:
        say("second service: tokens that it has yet to see")
        tokens = [await beside.token() for _ in range(effort.tries)]
        asked = await _ask_for_all(beside, tokens, effort.requests)
        rounds = await _throughput(beside, tokens[0], effort)
        revoked = {
            name: await _revoke(way, beside) for name, way in _ways(beside, effort.tries).items()
        }
    return Second(rounds, len(tokens), effort.requests, asked, revoked)


@asynccontextmanager
async def _side_by_side(database: str) -> AsyncIterator[Beside]:
    shared = scopegate_environment(database)
    follower = await _make_account(shared, FOLLOWER, "read:events", "introspect")
    caller = await _make_account(shared, CALLER, "read:orders")
    admin = await _make_account(shared, ADMIN, "admin")
    settings = {
        **shared,
        "SCOPEGATE_ISSUER": f"http://{HOST}:{PORT}",
        "SCOPEGATE_METRICS_TOKEN": METRICS_TOKEN,
    }
    connection = await connect(database)
    try:
        async with serving(Program([OURS, "-m", "app", "serve"], settings)) as scopegate:
            second = uvicorn(
                OURS,
                "bench.peers.second_service:create_app",
                "--factory",
                SCOPEGATE_ISSUER=f"http://{HOST}:{scopegate.port}",
                SCOPEGATE_CLIENT_ID=FOLLOWER,
                SCOPEGATE_CLIENT_SECRET=follower.secret,
            )
            async with serving(second) as service:
                await _until_following(service.port)
                # Times in tokens are whole seconds: one of this second may be of before the stream.
                await asyncio.sleep(1)
                token = await _sign_in(scopegate.port, ADMIN, admin, "admin")
                yield Beside(scopegate.port, service.port, caller, admin, token, connection)
    finally:
        await connection.close()


async def _make_account(environment: Mapping[str, str], name: str, *scopes: str) -> Account:
    command = [OURS, "-m", "app", "user", "create", name, "--service", "--json"]
    command += [word for scope in scopes for word in ("--scope", scope)]
    made: dict[str, Any] = json.loads(await run_to_its_end(Program(command, environment)))
    return Account(made["id"], made["client_secret"])


async def _sign_in(port: int, name: str, account: Account, scope: str) -> str:
    form = {"grant_type": "client_credentials", "client_id": name, "client_secret": account.secret}
    form["scope"] = scope
    answer = await ask_once(port, request("/token", method="POST", form=form))
    if answer.status != 200:
        raise BenchmarkFailed(f"client credentials: {answer.status} {answer.body!r}")
    token: str = answer.json()["access_token"]
    return token


async def _until_following(port: int) -> None:
    deadline = time.monotonic() + FOLLOWING_WITHIN
    while not (await ask_once(port, request(FRESH_PATH))).json():
        if time.monotonic() > deadline:
            raise NoStream(f"No stream within {FOLLOWING_WITHIN:g} seconds")
        await asyncio.sleep(0.05)


async def _ask_for_all(beside: Beside, tokens: list[str], requests: int) -> int:
    """Ask so often, by these tokens in turn; return how many requests Scopegate got meanwhile."""
    say(f"second service: {requests:,} requests by {len(tokens):,} tokens")
    raw = [request(ORDERS_PATH, token=token).decode() for token in tokens]
    # With the first token it fetches the keys.
    await ask_once(beside.second, raw[0].encode())
    before = await beside.calls()
    await load.run(Job(beside.second, raw, PATIENCE * 10, at_most=requests))
    return round(await beside.calls() - before)


async def _throughput(beside: Beside, token: str, effort: Effort) -> list[Round]:
    targets = [
        Target(name, beside.second, (request(path, token=token).decode(),))
        for name, path in ((BARE, BARE_PATH), (EMPTY, EMPTY_PATH), (PROTECTED, ORDERS_PATH))
    ]
    return await measure_rounds(targets, rounds=effort.rounds, seconds=effort.seconds)


async def _revoke(way: Way, beside: Beside) -> Refusals:
    [refusals] = await measure(way, [beside.second])
    return refusals


def _ways(beside: Beside, tries: int) -> dict[str, Way]:
    """What takes something away, each with what gives it back before the next try."""
    user = f"/users/{beside.caller.id}"
    grant = f"{user}/grants/read:orders"

    async def end_session(token: str) -> None:
        await ask_once(beside.scopegate, request("/revoke", method="POST", form={"token": token}))

    async def disable(_: str) -> None:
        await beside.administer("PATCH", user, {"disabled": True})

    async def restored() -> str:
        await beside.administer("PATCH", user, {"disabled": False})
        await beside.administer("PUT", grant)
        return await beside.token()

    async def revoke_grant(_: str) -> None:
        await beside.administer("DELETE", grant)

    async def remove_scope(_: str) -> None:
        await beside.administer("DELETE", f"/scopes/{ARCHIVE}")

    async def registered() -> str:
        """No one holds the scope but an admin, who holds all that are registered."""
        await beside.administer("PUT", f"/scopes/{ARCHIVE}", {"description": "Read the archive"})
        return await _sign_in(beside.scopegate, ADMIN, beside.admin, ARCHIVE)

    async def disable_by_sql(_: str) -> None:
        await beside.database.execute(_DISABLE, beside.caller.id)

    def way(name: str, issue: _Issue, take: _Take, path: str = ORDERS_PATH) -> Way:
        return Way(f"second service: {name}", issue, take, path, tries)

    return {
        "session ended": way("session ended", restored, end_session),
        "user disabled": way("user disabled", restored, disable),
        "grant revoked": way("grant revoked", restored, revoke_grant),
        "scope removed": way("scope removed", registered, remove_scope, ARCHIVE_PATH),
        "UPDATE by SQL": way("UPDATE by SQL", restored, disable_by_sql),
    }


_Issue = Callable[[], Awaitable[str]]
_Take = Callable[[str], Awaitable[object]]
_DISABLE = "UPDATE users SET disabled_at = now() WHERE id = $1::text::uuid"
