"""POST /introspect and POST /revoke: what counts of a token, and its end."""

import httpx2
import pytest
from sqlalchemy import select

from app.access.grants import revoke
from app.identity.models import Session
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, Someone, make_user, sign_in
from tests.support.services import make_service

pytestmark = pytest.mark.every_token_kind


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", [{}, {"token_type_hint": "refresh_token"}])
async def test_revoking_a_token_ends_its_session(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, which: str, hint: dict[str, str]
) -> None:
    pair, other = await sign_in(client, alice), await sign_in(client, alice)
    for _ in range(2):
        answer = await client.post("/revoke", data={"token": pair.tokens[which], **hint})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
    assert [await each.works() for each in (pair, other)] == [False, True]
    async with runtime.sessions() as db:
        ended = select(Session.end_reason).where(Session.ended_at.is_not(None))
        assert (await db.scalars(ended)).all() == ["token revoked"]
    assert await pair.refresh() == 400


async def test_an_expired_access_token_still_signs_out(
    client: httpx2.AsyncClient, alice: Someone, clock: MovableClock
) -> None:
    pair = await sign_in(client, alice)
    clock.move(seconds=901)
    assert (await client.post("/revoke", data={"token": pair.token})).status_code == 200
    assert await pair.refresh() == 400


async def test_a_sign_out_by_a_token_is_audited_as_its_users_own(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    pair = await sign_in(client, alice)
    await client.post("/revoke", data={"token": pair.token})
    async with runtime.sessions() as db:
        ((actor, subject, _),) = await told(db, "session.ended")
    assert (actor, subject) == (alice.id, alice.id)


async def test_revoking_no_token_is_200_and_a_missing_one_400(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    for token in ("x", "a.b.c", "sgo_x", "sgr_x", "sgr_" + "A" * 72, "é\0"):
        answer = await client.post("/revoke", data={"token": token})
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
    for form in (b"", b"token=", b"token=a&token=b"):
        answer = await client.post(
            "/revoke",
            content=form,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    answer = await client.post(
        "/revoke", data={"token": "x", "client_id": "a", "client_secret": "b"}
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_introspection_shows_the_scopes_that_count_now(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, clock: MovableClock
) -> None:
    _, _, credentials = await make_service(runtime, "gateway", "introspect")
    before, pair, after = [await sign_in(client, alice) for _ in range(3)]

    async def introspect(token: str) -> dict[str, object]:
        answer = await client.post("/introspect", data={"token": token, **credentials})
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        found: dict[str, object] = answer.json()
        return found

    access = await introspect(pair.token)
    assert access["active"] is True
    assert access["scope"] == "read:items"
    assert (access["sub"], access["username"]) == (str(alice.id), "Alice")
    assert access["client_id"] == "scopegate"
    assert access["iss"] == access["aud"] == runtime.settings.token_issuer
    assert access["token_type"] == "bearer"
    assert {"exp", "iat", "jti", "sid"} <= set(access)
    refresh = await introspect(pair.refresh_token)
    assert (refresh["active"], refresh["sid"]) == (True, access["sid"])
    assert (refresh["token_type"], refresh["scope"]) == ("refresh_token", "read:items")
    others = {(await introspect(each.refresh_token))["sid"] for each in (before, after)}
    assert len(others - {access["sid"]}) == 2
    async with runtime.work(OPERATOR) as work:
        await revoke(work, alice.id, "read:items")
    assert (await introspect(pair.token))["scope"] == ""
    await client.post("/revoke", data={"token": pair.token})
    for token in (pair.token, pair.refresh_token, "x", "sgr_" + "A" * 72):
        assert await introspect(token) == {"active": False}
    expired = await sign_in(client, alice)
    used = await sign_in(client, alice)
    spent = used.refresh_token
    assert await used.refresh() == 200
    assert await introspect(spent) == {"active": False}
    clock.move(seconds=901)
    assert await introspect(expired.token) == {"active": False}


async def test_only_who_holds_introspect_may_ask(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    pair = await sign_in(client, alice)
    form = {"token": pair.token}
    nobody = await client.post("/introspect", data=form)
    assert nobody.status_code == 401
    assert set(nobody.json()) == {"error", "error_description"}
    user_agent = await client.post("/introspect", data=form, headers=pair.header)
    assert (user_agent.status_code, user_agent.json()["error"]) == (403, "insufficient_scope")
    _, _, without = await make_service(runtime, "without")
    assert (await client.post("/introspect", data={**form, **without})).status_code == 403
    wrong = {"client_id": "without", "client_secret": "x"}
    assert (await client.post("/introspect", data={**form, **wrong})).status_code == 401
    asker = await sign_in(client, await make_user(runtime, "introspect"))
    allowed = await client.post("/introspect", data=form, headers=asker.header)
    assert allowed.json()["active"] is True
    missing = await client.post("/introspect", data={"x": "y"}, headers=asker.header)
    assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")


async def test_a_bearer_and_a_secret_at_once_are_two_ways(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    _, _, credentials = await make_service(runtime, "gateway", "introspect")
    pair = await sign_in(client, await make_user(runtime, "introspect"))
    form = {"token": pair.token, **credentials}
    answer = await client.post("/introspect", data=form, headers=pair.header)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
