"""E-mail addresses: whether the time of an answer tells that an address has an account.

Each public route that takes an address is asked about known and unknown ones, in turns. Hashes cost
next to nothing here, as they would hide the rest. `python -m bench.addresses` does it, on a
Postgres of the bench's own.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice

from app.identity.passwords import Argon2Cost
from bench.contestants import prepare_scopegate, scopegate_environment
from bench.effort import FULL, QUICK, Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.peers.account import PASSWORD
from bench.postgres import URL_VARIABLE, connect, open_postgres
from bench.progress import say
from bench.report import Section
from bench.rounds import Spread
from bench.servers import OURS, serving, uvicorn
from bench.wire import HOST, Connection, request

KNOWN = """
UPDATE users SET email = username || '@example.com', email_key = username || '@example.com',
    email_verified_at = now(), password_hash = $1
"""
PARTS = 20
"""Each part's medians are compared: the spread of the ratios is shown."""

Ask = Callable[[str, int, str], bytes]
"""A request about an address, the how many-th, from this network."""


def _by_address(path: str) -> Ask:
    def ask(email: str, _: int, network: str) -> bytes:
        headers = {"X-Forwarded-For": network}
        return request(path, method="POST", headers=headers, document={"email": email})

    return ask


def _sign_up(email: str, number: int, network: str) -> bytes:
    wanted = {"username": f"newcomer-{number}", "email": email, "password": PASSWORD}
    return request("/sign-up", method="POST", headers={"X-Forwarded-For": network}, document=wanted)


def _token(email: str, _: int, network: str) -> bytes:
    form = {"grant_type": "password", "username": email, "password": "wrong"}
    return request("/token", method="POST", headers={"X-Forwarded-For": network}, form=form)


ROUTES: dict[str, tuple[Ask, int]] = {
    "POST /password-reset": (_by_address("/password-reset"), 202),
    "POST /email-verification": (_by_address("/email-verification"), 202),
    "POST /sign-up": (_sign_up, 202),
    "POST /token, an address as username": (_token, 400),
}
Ratios = dict[str, list[float]]


async def measure(effort: Effort) -> Ratios:
    """Return the medians of known over unknown addresses, by route, in PARTS parts."""
    tries = effort.names
    population = Population(max(effort.small, tries * len(ROUTES)), effort.small)
    async with open_postgres() as postgres:
        database = await postgres.create("addresses")
        await prepare_scopegate(database, population)
        connection = await connect(database)
        await connection.execute(KNOWN, Argon2Cost(memory=64, passes=1).dummy)
        await connection.close()
        settings = scopegate_environment(database) | {
            "SCOPEGATE_SIGN_UP": "open",
            # No server is there: what is composed waits.
            "SCOPEGATE_SMTP_URL": f"smtp://{HOST}:9?tls=off",
            "SCOPEGATE_MAIL_FROM": "no-reply@shop.example",
            "SCOPEGATE_TRUSTED_PROXIES": HOST,
        }
        program = uvicorn(OURS, "bench.peers.cheap_hashes:create_app", "--factory", **settings)
        async with serving(program) as server:
            people, networks = iter(range(population.users)), _networks()
            return {
                name: await _compare(server.port, route, islice(people, tries), networks, name)
                for name, route in ROUTES.items()
            }


async def _compare(
    port: int, route: tuple[Ask, int], people: Iterator[int], networks: Iterator[str], name: str
) -> list[float]:
    ask, status = route
    known: list[float] = []
    unknown: list[float] = []
    connection = await Connection.open(port)
    for number in people:
        asked = [(f"user-{number}@example.com", known), (f"no-one-{number}@example.com", unknown)]
        # In an order of chance: what one request leaves behind must not fall to the other always.
        random.shuffle(asked)
        for turn, (email, seconds) in enumerate(asked):
            raw = ask(email, 2 * number + turn, next(networks))
            started = time.perf_counter()
            answer = await connection.ask(raw)
            seconds.append(time.perf_counter() - started)
            if answer.status != status:
                raise BenchmarkFailed(f"{name} answered {answer.status}: {answer.body.decode()}")
    connection.close()
    say(f"{name}: {len(known):,} known and as many unknown")
    size = max(len(known) // PARTS, 1)
    starts = range(0, len(known), size)
    return [
        statistics.median(known[at : at + size]) / statistics.median(unknown[at : at + size])
        for at in starts
    ]


def _networks() -> Iterator[str]:
    """As many as one likes, none of them twice."""
    for number in range(1 << 24):
        yield f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def section(found: Ratios) -> Section:
    """All that was found."""
    rows = []
    for name, ratios in found.items():
        spread = Spread.of(ratios)
        rows.append((name, f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"))
    remark = (
        "The median time for known addresses over that for unknown ones. 0.9 to 1.1 tells nothing."
    )
    return Section("Addresses", remark, ("route", "known / unknown"), rows)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.addresses", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shows that it works, and no more")
    effort = QUICK if parser.parse_args().quick else FULL
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_")]:
        if name != URL_VARIABLE:
            del os.environ[name]  # what is measured has the default settings
    print(f"\n{section(asyncio.run(measure(effort)))}")


if __name__ == "__main__":
    main()
