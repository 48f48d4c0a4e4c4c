"""The sessions that codes are redeemed for: how many there may be, and what they rest on."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import select

from app.db.work import Actor
from app.identity.clients import AskingClient, Client
from app.identity.models import Session, User
from app.identity.sessions import live_sessions
from app.runtime import Runtime
from app.tokens.codes import CodeRefused, PresentedCode, code_grant
from tests.support.browsing import PersonsBrowser, register
from tests.support.factories import Someone


@pytest.fixture
async def browser(runtime: Runtime, alice: Someone) -> AsyncIterator[PersonsBrowser]:
    """Alice's, of a service where a person has three sessions at most."""
    few = replace(runtime, issuer=replace(runtime.issuer, max_sessions=3))
    browser = PersonsBrowser.of(few)
    async with browser.client:
        await browser.sign_in(alice)
        yield browser


async def test_a_person_has_so_many_live_sessions_by_codes_and_no_more(
    runtime: Runtime, browser: PersonsBrowser, alice: Someone
) -> None:
    app = await register(runtime)
    counts = []
    for _ in range(3):
        await browser.let_in(app)
        async with runtime.sessions() as db:
            live = await live_sessions(db, alice.id, after=None, limit=10, now=runtime.now())
        counts.append(len(live))
    # The browser's own counts too, and expires first.
    assert counts == [2, 3, 3]


async def test_a_code_gives_nothing_once_the_clients_secret_was_changed_meanwhile(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    app = await register(runtime, confidential=True)
    code = await browser.code(app)
    presented = PresentedCode(code, app.redirect_uri, app.verifier, None)
    async with runtime.sessions() as db:
        account = (await db.scalars(select(User).where(User.username == app.client_id))).one()
        before = (await db.scalars(select(Session.id))).all()
    # Of the secret that it authenticated with a moment ago.
    client = Client(account.id, app.client_id, digest=bytes(32), granted={})
    asking = AskingClient.of(client, named=None)
    with pytest.raises(CodeRefused):
        async with runtime.work(Actor()) as work:
            await code_grant(work, runtime.issuer, presented, client=client, asking=asking)
    async with runtime.sessions() as db:
        assert (await db.scalars(select(Session.id))).all() == before
    assert (await app.redeem(browser.client, code)).status_code == 200, "nothing has changed"


async def test_a_redirect_uri_that_cant_be_stored_is_none_of_a_requests(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    app = await register(runtime)
    code = await browser.code(app)
    answer = await app.redeem(browser.client, code, redirect_uri="https://app.example/\0")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_redirect_uri_that_was_left_out_is_left_out_again_or_the_registered_one(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    app = await register(runtime)
    for given in (None, app.redirect_uri):
        code = await browser.code(app, redirect_uri=None)
        assert (await app.redeem(browser.client, code, redirect_uri=given)).status_code == 200


async def test_a_verifier_that_is_too_short_gives_nothing_although_its_challenge_fits(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    app = replace(await register(runtime), verifier="x" * 42)
    code = await browser.code(app)
    answer = await app.redeem(browser.client, code)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
