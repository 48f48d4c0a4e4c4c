"""Signing in: what it costs at the page, beside the password grant.

Processor time of the server and of Postgres for one answer, in rounds that take turns. Hashes cost
next to nothing here: by both ways there is one, and it would hide the rest.
`python -m bench.signing_in` does it, on a Postgres of the bench's own.
"""

import argparse
import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx2

from app.tokens.codes import challenge_of
from bench.contestants import prepare_scopegate, scopegate_environment
from bench.costs import Kind, Spent, Target, postmaster_of, spend
from bench.effort import FULL, QUICK, Effort
from bench.errors import BenchmarkFailed
from bench.fill import Population
from bench.peers.account import PASSWORD
from bench.postgres import URL_VARIABLE, open_postgres
from bench.progress import say
from bench.report import Section
from bench.rounds import Spread
from bench.servers import OURS, Program, Server, run_to_its_end, serving, uvicorn
from bench.wire import HOST

USERS = 200
"""Each does each step once in a round."""
CALLBACK = "https://app.example/callback"
GRANT, PAGE = "POST /token, password grant", "POST /sign-in"
FORM, AUTHORIZE, CODE = "GET /sign-in", "GET /authorize, signed in", "POST /token, code"


class NotSignedIn(BenchmarkFailed):
    """A step was answered otherwise than it should be."""


@dataclass
class Browser:
    """A person's browser, and what the next step needs."""

    client: httpx2.AsyncClient
    username: str
    token: str = ""
    """Of the form."""
    code: str = ""
    verifier: str = ""

    async def grant(self) -> None:
        """Sign in by the password grant."""
        form = {"grant_type": "password", "username": self.username, "password": PASSWORD}
        await self._expect(200, self.client.post("/token", data=form))

    async def open_page(self) -> None:
        """Get the form, in a browser that nobody has signed in to."""
        self.client.cookies.clear()
        page = await self._expect(200, self.client.get("/sign-in"))
        found = re.search(r'name="token" value="([^"]+)"', page.text)
        if found is None:
            raise NotSignedIn("The sign-in page has no form.")
        self.token = unescape(found[1])

    async def send_form(self) -> None:
        """Sign in at the page."""
        form = {"token": self.token, "username": self.username, "password": PASSWORD}
        await self._expect(303, self.client.post("/sign-in", data=form))

    async def authorize(self) -> None:
        """Get a code."""
        self.verifier = secrets.token_urlsafe(48)
        asked = {
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": CALLBACK,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
        }
        answer = await self._expect(303, self.client.get("/authorize", params=asked))
        self.code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]

    async def redeem(self) -> None:
        """Get tokens for the code."""
        form = {
            "grant_type": "authorization_code",
            "client_id": "app",
            "code": self.code,
            "code_verifier": self.verifier,
            "redirect_uri": CALLBACK,
        }
        await self._expect(200, self.client.post("/token", data=form))

    async def _expect(self, status: int, asking: Awaitable[httpx2.Response]) -> httpx2.Response:
        answer = await asking
        if answer.status_code != status:
            raise NotSignedIn(f"{answer.request.url.path} answered {answer.status_code}")
        return answer


Step = Callable[[Browser], Awaitable[None]]
STEPS: dict[str, Step] = {
    GRANT: Browser.grant,
    FORM: Browser.open_page,
    PAGE: Browser.send_form,
    AUTHORIZE: Browser.authorize,
    CODE: Browser.redeem,
}


async def measure(effort: Effort) -> dict[str, list[Spent]]:
    """Measure on a database of its own."""
    found: dict[str, list[Spent]] = {what: [] for what in STEPS}
    async with open_postgres() as postgres:
        database = await postgres.create("signing_in")
        await prepare_scopegate(database, Population(effort.small, effort.small))
        settings = {**scopegate_environment(database), "SCOPEGATE_ISSUER": f"http://{HOST}"}
        words = ["client", "create", "App", "--client-id", "app", "--trusted"]
        command = [OURS, "-m", "app", *words, "--redirect-uri", CALLBACK]
        await run_to_its_end(Program(command, settings))
        program = uvicorn(OURS, "bench.peers.cheap_hashes:create_app", "--factory", **settings)
        postmaster = await postmaster_of(database)
        async with serving(program) as server:
            browsers = [_browser(server, number) for number in range(USERS)]
            for browser in browsers:
                await browser.grant()
            for number in range(1, effort.rounds + 1):
                say(f"signing in, round {number} of {effort.rounds}")
                for what, step in STEPS.items():
                    target, kind = Target(server), _kind(step, browsers)
                    found[what].append(await spend(kind, target, effort.seconds, postmaster))
            for browser in browsers:
                await browser.client.aclose()
    return found


def _browser(server: Server, number: int) -> Browser:
    url = f"http://{HOST}:{server.port}"
    return Browser(httpx2.AsyncClient(base_url=url), f"user-{number}")


def _kind(step: Step, browsers: Sequence[Browser]) -> Kind:
    async def ask(_: Target, __: None, ___: float) -> int:
        for browser in browsers:
            await step(browser)
        return len(browsers)

    return Kind(ask)


def section(found: dict[str, list[Spent]]) -> Section:
    """All that was found."""
    grants = [_of_both(each) for each in found[GRANT]]
    rows = []
    for what, spent in found.items():
        times = Spread.of([_of_both(a) / b for a, b in zip(spent, grants, strict=True)])
        server = Spread.of([1e6 * each.server / each.done for each in spent])
        postgres = Spread.of([1e6 * (each.postgres or 0) / each.done for each in spent])
        ratio = f"{times.median:.2f} ({times.low:.2f} to {times.high:.2f})"
        rows.append((what, f"{server.median:,.0f}", f"{postgres.median:,.0f}", ratio))
    remark = (
        "Microseconds of processor time for one answer, without what a hash costs; and the sum of "
        f"both over that of the password grant in the same round. {len(grants)} rounds."
    )
    return Section("Signing in", remark, ("what", "server", "Postgres", "times"), rows)


def _of_both(spent: Spent) -> float:
    return (spent.server + (spent.postgres or 0)) / spent.done


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.signing_in", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shows that it works, and no more")
    effort = QUICK if parser.parse_args().quick else FULL
    for name in [name for name in os.environ if name.startswith("SCOPEGATE_")]:
        if name != URL_VARIABLE:
            del os.environ[name]  # what is measured has the default settings
    print(f"\n{section(asyncio.run(measure(effort)))}")


if __name__ == "__main__":
    main()
