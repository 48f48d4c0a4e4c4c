"""Refresh tokens as strings: what forging one costs, and what a leak gives away."""

import hmac
import secrets
import uuid
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import datetime, timedelta

import httpx2
import pytest
from sqlalchemy import select, text, update

from app.identity.account_writes import create_service
from app.identity.clients import AskingClient
from app.identity.models import Session, User
from app.identity.session_writes import end_session
from app.runtime import Runtime
from app.tokens.refresh import (
    MAC_BYTES,
    PREFIX,
    Grace,
    Holdings,
    RefreshTokenRefused,
    RefreshTokenReused,
    RefreshTokens,
    Terms,
)
from tests.conftest import SECRET, TokenKind, settings_for
from tests.support.factories import OPERATOR, Someone, login, make_user, refresh
from tests.support.statements import statements_of

OTHER_SECRET = "another-secret-of-the-tests-9876543210"
IDLE = timedelta(days=14)


async def use(runtime: Runtime, token: str, grace: Grace, *, now: datetime) -> Session:
    """Use up a refresh token at that moment; return its session, which the successor is of."""

    async def used(session: Session, _: Holdings) -> Session:
        return session

    database = replace(runtime.database, now=lambda: now)
    async with database.work(OPERATOR, at_once=True) as work:
        tokens = runtime.issuer.refresh_tokens
        return await tokens.use(
            work,
            token,
            used,
            client=AskingClient(None, authenticated=False),
            terms=Terms(grace, IDLE),
        )


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_user(runtime, "read:items")


def test_a_refresh_token_has_one_spelling() -> None:
    tokens = RefreshTokens([SECRET])
    session = Session(id=uuid.UUID(int=2**128 - 1), generation=0, refresh_key=b"k" * 32)
    token = tokens.write(session)
    assert tokens.read(token)
    for other in (token + "====", token.replace("_", "/"), PREFIX + token, token + "\n"):
        assert other != token
        assert tokens.read(other) is None


def test_a_generation_that_no_row_can_have_is_read_as_one_that_none_has() -> None:
    """Postgres would refuse to compare it: an answer that no caller is to see."""
    body = bytes(16) + b"\xff" * 4 + bytes(MAC_BYTES)
    seal = hmac.digest(SECRET.encode(), b"scopegate refresh seal\0" + body, "sha256")[:MAC_BYTES]
    presented = RefreshTokens([SECRET]).read(PREFIX + urlsafe_b64encode(body + seal).decode())
    assert presented
    assert -(2**31) <= presented.generation < 2**31


async def test_forged_refresh_tokens_cause_no_query(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    good = (await login(client, alice)).json()["refresh_token"]
    forged = [
        "",
        "x",
        PREFIX,
        PREFIX + "A" * 72,
        good[:-4],
        good + "AAAA",
        good.removeprefix(PREFIX),
        good.replace("_", "/"),
        PREFIX + secrets.token_urlsafe(54),
        RefreshTokens([OTHER_SECRET]).write(
            Session(id=uuid.uuid4(), generation=0, refresh_key=b"x" * 32)
        ),
    ]
    with statements_of(runtime) as statements:
        for token in forged:
            if token != good:
                assert (await refresh(client, token)).status_code == 400
    assert statements == []
    with statements_of(runtime) as statements:
        assert (await refresh(client, good)).status_code == 200
    assert statements


async def test_every_single_bit_change_of_a_refresh_token_is_refused(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    good = (await login(client, alice)).json()["refresh_token"]
    tokens = runtime.issuer.refresh_tokens
    for position in range(len(good)):
        for bit in range(7):
            forged = bytearray(good, "ascii")
            forged[position] ^= 1 << bit
            assert tokens.read(forged.decode()) is None
    assert tokens.read(good)


async def test_the_secret_alone_makes_no_token(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    good = (await login(client, alice)).json()["refresh_token"]
    presented = runtime.issuer.refresh_tokens.read(good)
    assert presented
    forged = RefreshTokens([SECRET]).write(
        Session(id=presented.session_id, generation=0, refresh_key=secrets.token_bytes(32))
    )
    assert runtime.issuer.refresh_tokens.read(forged), "the seal is right"
    assert (await refresh(client, forged)).status_code == 400
    again = RefreshTokens([SECRET]).write(
        Session(id=presented.session_id, generation=7, refresh_key=secrets.token_bytes(32))
    )
    assert (await refresh(client, again)).status_code == 400
    assert (await refresh(client, good)).status_code == 200, "and does no harm"


async def test_the_grace_is_over_a_moment_after_its_end_and_each_use_has_its_own(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    token, now = (await login(client, alice)).json()["refresh_token"], runtime.now()
    grace, write = Grace(timedelta(seconds=10), strict=True), runtime.issuer.refresh_tokens.write
    for _ in range(3):
        successor = write(await use(runtime, token, grace, now=now))
        now += grace.lasts
        assert write(await use(runtime, token, grace, now=now)) == successor
        token, late = successor, token
    now += timedelta(microseconds=1)
    with pytest.raises(RefreshTokenReused):
        await use(runtime, late, grace, now=now)


async def test_a_user_found_disabled_gets_no_successor_though_the_session_lives(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    """As when somebody disables them in the database, by hand."""
    await make_user(runtime)
    token = (await login(client, alice)).json()["refresh_token"]
    disabled = update(User).where(User.id == alice.id)
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(disabled.values(disabled_at=runtime.now()))
        # Disabling ends sessions, whoever does it: this is as if one had been left over.
        epoch = select(User.session_epoch).where(User.id == alice.id).scalar_subquery()
        await work.db.execute(update(Session).values(epoch=epoch))
    assert (await refresh(client, token)).status_code == 400
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(disabled.values(disabled_at=None))
    assert (await refresh(client, token)).status_code == 200


async def test_a_session_that_ends_while_its_token_is_used_gives_no_successor(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Between the look at the session and the token's use."""
    user = await make_user(own_runtime)
    token = (await login(own_client, user)).json()["refresh_token"]

    async def ended(session: Session, _: Holdings) -> None:
        async with own_runtime.work(OPERATOR) as ending:
            await end_session(ending, session.id, reason="test")

    async with own_runtime.work(OPERATOR, at_once=True) as work:
        using = own_runtime.issuer.refresh_tokens.use(
            work,
            token,
            ended,
            client=AskingClient(None, authenticated=False),
            terms=Terms(Grace(timedelta(), strict=True), IDLE),
        )
        with pytest.raises(RefreshTokenRefused):
            await using
    async with own_runtime.reading() as db:
        assert (await db.scalars(select(Session.generation))).one() == 0


async def test_each_use_tells_when_it_was_and_puts_off_the_end_of_idling_until_the_end_of_all(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    token, now = (await login(client, alice)).json()["refresh_token"], runtime.now()
    for _ in range(3):
        now += timedelta(days=9)
        used = await use(runtime, token, Grace(timedelta(), strict=True), now=now)
        async with runtime.reading() as db:
            kept = await db.get_one(Session, used.id)
        assert kept.last_used_at == kept.rotated_at == now
        end = min(now + IDLE, kept.expires_at)
        assert kept.idle_expires_at == used.idle_expires_at == end
        token = runtime.issuer.refresh_tokens.write(used)
    assert kept.idle_expires_at == kept.expires_at, "30 days after the login"


def test_refresh_tokens_outlive_an_upgrade() -> None:
    """Those that are out were written so: who writes them otherwise signs everybody out."""
    session = Session(id=uuid.UUID(int=1), generation=2, refresh_key=b"k" * 32)
    assert RefreshTokens([SECRET]).write(session) == (
        "sgr_AAAAAAAAAAAAAAAAAAAAAQAAAAIEQuCmEBWTOmfL60IGfMjneCtMecQf6Cup6cPPsMqNZLDo"
    )


async def test_refresh_tokens_outlive_a_change_of_secret(own_database_url: str) -> None:
    session = Session(id=uuid.uuid4(), generation=3, refresh_key=secrets.token_bytes(32))
    old = RefreshTokens([SECRET]).write(session)
    both = RefreshTokens([OTHER_SECRET, SECRET])
    presented = both.read(old)
    assert presented
    assert both.proves(presented, session)
    assert both.write(session) != old
    assert RefreshTokens([OTHER_SECRET]).read(old) is None


@pytest.mark.long
async def test_a_dump_of_the_database_holds_nothing_that_can_be_presented(
    own_database_url: str,
) -> None:
    from tests.conftest import client_of

    settings = settings_for(
        own_database_url,
        **{**TokenKind().__dict__, "access_token_format": "opaque"},
        trusted_proxies="127.0.0.1",
    )
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        user = await make_user(runtime, "read:items")
        async with runtime.work(OPERATOR) as work:
            _, secret = await create_service(work, username="worker")
        pair = (await login(client, user)).json()
        pair = (await refresh(client, pair["refresh_token"])).json()
        columns = 0
        values: set[str] = set()
        async with runtime.sessions() as db:
            tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            for table in (await db.scalars(text(tables))).all():
                for row in (await db.execute(text(f'SELECT * FROM "{table}"'))).mappings():
                    for value in row.values():
                        columns += 1
                        values |= spellings(value)
        assert columns > 50
        held = {pair["access_token"], pair["refresh_token"], secret.value}
        assert not held & values
        assert not any(each in value for each in held for value in values)
        for number, value in enumerate(values):
            # Each from another address: the throttle is not what keeps them out.
            client.headers["X-Forwarded-For"] = f"10.0.{number // 256}.{number % 256}"
            headers = [(b"Authorization", b"Bearer " + value.encode())]
            assert (await client.get("/users/me", headers=headers)).status_code in {401, 400}
            assert (await refresh(client, value)).status_code == 400
            form = {
                "grant_type": "client_credentials",
                "client_id": "worker",
                "client_secret": value,
            }
            assert (await client.post("/token", data=form)).status_code in {400, 401}


def spellings(value: object) -> set[str]:
    """A stored value, in the ways somebody might try to present it."""
    import base64

    if not isinstance(value, bytes):
        plain = str(value).replace("\n", " ").replace("\r", " ")
        return {plain, f"sgo_{plain}", f"sgr_{plain}"} if plain.isascii() else set()
    encoded = base64.urlsafe_b64encode(value).decode()
    return {
        prefix + text
        for prefix in ("", "sgo_", "sgr_", "sgs_")
        for text in (value.hex(), encoded, encoded.rstrip("="))
    }
