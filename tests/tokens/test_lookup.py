"""The way from a token to its session, which introspection and revocation share."""

import secrets
from datetime import datetime, timedelta

import httpx2
import pytest

from app.db.work import Actor
from app.identity.models import Session
from app.runtime import Runtime
from app.tokens.introspection import ActiveToken, introspect_token
from app.tokens.refresh import RefreshTokens
from app.tokens.revocation import revoke_token
from tests.conftest import SECRET
from tests.support.clock import MovableClock
from tests.support.factories import login, make_user, refresh
from tests.support.statements import statements_of

pytestmark = pytest.mark.every_token_kind

MOMENT = timedelta(microseconds=1)


async def pair_of_tokens(client: httpx2.AsyncClient, runtime: Runtime) -> dict[str, str]:
    answer = await login(client, await make_user(runtime, "read:items"))
    pair: dict[str, str] = answer.json()
    return pair


async def introspect(
    runtime: Runtime, token: str, *, now: datetime | None = None
) -> ActiveToken | None:
    return await introspect_token(
        token,
        runtime.issuer.refresh_tokens,
        runtime.access_tokens,
        runtime.sessions,
        now=now or runtime.now(),
    )


async def sign_out(runtime: Runtime, token: str) -> None:
    await revoke_token(
        token,
        runtime.issuer.refresh_tokens,
        runtime.access_tokens,
        runtime.database,
        actor=Actor(),
    )


async def test_a_refresh_token_that_was_used_is_not_active_and_still_signs_out(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    pair = await pair_of_tokens(client, runtime)
    successor = (await refresh(client, pair["refresh_token"])).json()
    assert await introspect(runtime, pair["refresh_token"]) is None
    assert await introspect(runtime, successor["refresh_token"])
    await sign_out(runtime, pair["refresh_token"])
    for token in (successor["access_token"], successor["refresh_token"]):
        assert await introspect(runtime, token) is None


async def test_the_secret_alone_makes_no_token_that_is_active_or_signs_out(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    pair = await pair_of_tokens(client, runtime)
    active = await introspect(runtime, pair["refresh_token"])
    assert active
    forged = RefreshTokens([SECRET]).write(
        Session(id=active.token.session_id, generation=0, refresh_key=secrets.token_bytes(32))
    )
    assert runtime.issuer.refresh_tokens.read(forged), "the seal is right"
    assert await introspect(runtime, forged) is None
    await sign_out(runtime, forged)
    assert await introspect(runtime, pair["refresh_token"]) == active


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
async def test_a_token_is_active_until_the_moment_when_it_expires(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock, which: str
) -> None:
    token = (await pair_of_tokens(client, runtime))[which]
    active = await introspect(runtime, token)
    assert active
    end = active.token.expires_at
    assert end > clock()
    assert await introspect(runtime, token, now=end - MOMENT) == active
    assert await introspect(runtime, token, now=end) is None


async def test_the_tokens_of_one_login_lead_to_one_session(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    pair, other = [await pair_of_tokens(client, runtime) for _ in range(2)]
    found = [await introspect(runtime, pair[each]) for each in ("access_token", "refresh_token")]
    assert all(found)
    (session_id,) = {each.token.session_id for each in found if each}
    assert {each.principal.session_id for each in found if each} == {session_id}
    stranger = await introspect(runtime, other["refresh_token"])
    assert stranger
    assert stranger.token.session_id != session_id


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "sgr_", "sgr_" + "A" * 72, "é\0", "\ud800"])
async def test_what_bears_no_seal_and_no_signature_asks_the_database_nothing(
    runtime: Runtime, token: str
) -> None:
    with statements_of(runtime) as run:
        assert await introspect(runtime, token) is None
        await sign_out(runtime, token)
    assert run == []
