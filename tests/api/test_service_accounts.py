"""Service accounts: client credentials, their secrets, and logins with a client."""

import asyncio
import base64

import httpx2
import pytest
from sqlalchemy import text, update

from app.access.grants import revoke
from app.identity.account_writes import (
    disable_user,
    enable_user,
    revoke_secret,
)
from app.identity.models import User
from app.runtime import Runtime
from tests.support.audit import Told, told
from tests.support.factories import OPERATOR, PASSWORD, SignedIn, Someone, make_user
from tests.support.locks import until_waiting
from tests.support.services import make_service

pytestmark = pytest.mark.every_token_kind


async def test_client_credentials_give_an_access_token_and_no_other(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user_id, _, credentials = await make_service(runtime, "worker", "read:items", "write:items")
    form = {"grant_type": "client_credentials", "scope": "read:items admin"}
    basic = base64.b64encode(":".join(credentials.values()).encode()).decode()
    for request in (
        {"data": {**form, **credentials}},
        {"data": form, "headers": {"Authorization": f"Basic {basic}"}},
    ):
        answer = await client.post("/token", **request)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        assert answer.json()["scope"] == "read:items"
        assert "refresh_token" not in answer.json()
        token = SignedIn(client, answer.json()).header
        claims = await runtime.access_tokens.read(answer.json()["access_token"], now=runtime.now())
        assert (claims.subject, claims.client_id) == (user_id, "worker")
        me = (await client.get("/users/me", headers=token)).json()
        assert (me["kind"], me["username"]) == ("service", "worker")
        assert (await client.get("/items", headers=token)).status_code == 200
    async with runtime.work(OPERATOR) as work:
        await revoke(work, user_id, "read:items")
    assert (await client.get("/items", headers=token)).status_code == 403
    async with runtime.work(OPERATOR) as work:
        await disable_user(work, user_id)
    assert (await client.get("/users/me", headers=token)).status_code == 401
    answer = await client.post("/token", data={**form, **credentials})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "client_form",
    [
        {},
        {"client_id": "worker"},
        {"client_id": "worker", "client_secret": "wrong"},
        {"client_id": "nobody", "client_secret": "wrong"},
        {"client_id": "Alice", "client_secret": PASSWORD},
    ],
)
async def test_client_credentials_without_a_good_secret_are_invalid_client(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, client_form: dict[str, str]
) -> None:
    await make_service(runtime, "worker", "read:items")
    form = {"grant_type": "client_credentials", **client_form}
    answer = await client.post("/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_a_client_id_is_compared_to_the_letter(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """As RFC 6749 §1.9 has it of all values: only people's names forgive another case."""
    _, _, credentials = await make_service(runtime, "worker", "read:items")
    form = {"grant_type": "client_credentials", **credentials}
    assert (await client.post("/token", data=form)).status_code == 200
    answer = await client.post("/token", data={**form, "client_id": "Worker"})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("grant_type", ["client_credentials", "password"])
async def test_a_secret_revoked_between_its_check_and_the_session_opens_nothing(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, grant_type: str
) -> None:
    user_id, secret, credentials = await make_service(own_runtime, "worker", "read:items")
    alice = await make_user(own_runtime, "read:items")
    form = {
        "grant_type": grant_type,
        "username": alice.username,
        "password": PASSWORD,
        **credentials,
    }
    async with own_runtime.sessions() as blocking:
        await blocking.execute(text("LOCK TABLE sessions"))
        asking = asyncio.create_task(own_client.post("/token", data=form))
        await until_waiting(own_runtime, "relation")
        async with own_runtime.work(OPERATOR) as work:
            await revoke_secret(work, user_id, secret.id)
        await blocking.rollback()
    answer = await asking
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    async with own_runtime.sessions() as db:
        why = "the client was changed meanwhile"
        if grant_type == "password":
            refused: Told = (user_id, alice.id, {"reason": f"right password, but: {why}"})
        else:
            refused = (None, user_id, {"reason": f"right client secret, but: {why}"})
        assert await told(db, "login.failed") == [refused], "one entry, and it names all"
        assert await told(db, "login.succeeded") == []


async def test_a_service_disabled_meanwhile_gets_no_token_that_enabling_would_revive(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    user_id, _, credentials = await make_service(own_runtime, "worker", "read:items")
    form = {"grant_type": "client_credentials", **credentials}
    async with own_runtime.sessions() as blocking:
        await blocking.execute(text("LOCK TABLE sessions"))
        asking = asyncio.create_task(own_client.post("/token", data=form))
        await until_waiting(own_runtime, "relation")
        # By SQL: `disable_user` would wait for the same lock.
        await blocking.execute(
            update(User).where(User.id == user_id).values(disabled_at=own_runtime.now())
        )
        await blocking.commit()
    answer = await asking
    async with own_runtime.work(OPERATOR) as work:
        await enable_user(work, user_id)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
