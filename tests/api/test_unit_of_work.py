"""Every write answers only once it is committed, and what fails leaves nothing."""

from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from app.db.changes import EVERYTHING, Change
from app.errors import Conflict
from app.items.models import Item
from app.runtime import Runtime
from tests.conftest import client_of, settings_for
from tests.support.factories import OPERATOR, PASSWORD, bearer, login, make_user

# A constraint that Postgres checks when everything else is done: in COMMIT itself.
FAIL_AT_COMMIT = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$",
    "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON items "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
)


class Kept(Conflict):
    """An error that must keep its writes."""

    keeps_writes = True


async def count_items(runtime: Runtime) -> int | None:
    async with runtime.sessions() as db:
        return await db.scalar(select(func.count()).select_from(Item))


async def test_a_commit_that_fails_is_not_answered_201(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    token = await bearer(own_client, await make_user(own_runtime, "write:items"))

    async with own_runtime.work(OPERATOR) as work:
        for statement in FAIL_AT_COMMIT:
            await work.db.execute(text(statement))
    answer = await own_client.post("/items", json={"title": "Lamp"}, headers=token)
    assert answer.status_code == 409
    assert await count_items(own_runtime) == 0


async def test_an_answered_write_is_committed(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    token = await bearer(own_client, await make_user(own_runtime, "write:items"))
    answer = await own_client.post("/items", json={"title": "Lamp"}, headers=token)
    assert answer.status_code == 201
    assert await count_items(own_runtime) == 1


@pytest.mark.parametrize(("error", "kept"), [(Kept, 1), (Conflict, 0), (RuntimeError, 0)])
async def test_an_error_undoes_its_writes_unless_its_class_keeps_them(
    own_runtime: Runtime, error: type[Exception], kept: int
) -> None:
    owner = await make_user(own_runtime)
    heard: list[Change] = []
    own_runtime.feed.subscribe(heard.append)

    async def write_and_fail() -> None:
        async with own_runtime.work(OPERATOR) as work:
            work.db.add(Item(owner_id=owner.id, title="Lamp", description=None))
            await work.db.flush()
            work.publish(Change("scopes"))
            raise error("as it happens")

    with pytest.raises(error):
        await write_and_fail()
    assert await count_items(own_runtime) == kept
    assert heard.count(Change("scopes")) == kept


async def test_a_change_is_published_though_the_answer_to_its_commit_is_lost(
    own_runtime: Runtime,
) -> None:
    """It may be committed, and what has not changed is only asked of the database once more."""
    heard: list[Change] = []
    own_runtime.feed.subscribe(heard.append)
    for statement in FAIL_AT_COMMIT:
        async with own_runtime.work(OPERATOR) as work:
            await work.db.execute(text(statement))
    owner = await make_user(own_runtime)

    async def fail_at_commit() -> None:
        async with own_runtime.work(OPERATOR) as work:
            work.db.add(Item(owner_id=owner.id, title="Lamp", description=None))
            work.publish(Change("scopes"))
            work.after_commit(lambda: heard.append(EVERYTHING))

    with pytest.raises(IntegrityError):
        await fail_at_commit()
    assert Change("scopes") in heard
    assert EVERYTHING not in heard, "what is done after a commit needs one"


@pytest.mark.parametrize("token_format", ["jwt", "opaque"])
async def test_no_request_waits_for_a_connection_while_it_holds_one(
    own_database_url: str, token_format: str
) -> None:
    """With one connection in all, each is answered; otherwise those at work wait for each other."""
    settings = settings_for(
        own_database_url, database_pool_size=1, access_token_format=token_format
    )
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        alice = await make_user(runtime, "admin")
        pair = (await login(client, alice)).json()
        token = {"Authorization": f"Bearer {pair['access_token']}"}
        service = {"username": "service", "kind": "service"}
        service = (await client.post("/users", json=service, headers=token)).json()
        credentials = (service["client_id"], service["client_secret"])
        granting = f"/users/{service['id']}/grants/introspect"
        refresh = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        passwords = {"current_password": PASSWORD, "new_password": PASSWORD * 2}

        async def ask(method: str, path: str, **what: Any) -> None:
            # Nothing is remembered, so that each asks for all it needs.
            runtime.feed.publish(EVERYTHING)
            answer = await client.request(method, path, **what)
            assert answer.is_success, (method, path, answer.text)

        await ask("PUT", granting, headers=token)
        await ask("POST", "/token", data=refresh)
        await ask("POST", "/token", data={"grant_type": "client_credentials"}, auth=credentials)
        form = {"username": alice.username, "password": PASSWORD}
        await ask("POST", "/token", data=form, auth=credentials)
        await ask("POST", "/introspect", data={"token": pair["access_token"]}, auth=credentials)
        await ask("POST", "/items", json={"title": "Lamp"}, headers=token)
        await ask("POST", "/users/me/password", json=passwords, headers=token)
        for path in ("/users/me", "/users/me/sessions", "/items", "/users", "/scopes", "/audit"):
            await ask("GET", path, headers=token)
        await ask("POST", f"/users/{service['id']}/secrets", headers=token)
        await ask("PATCH", f"/users/{service['id']}", json={"disabled": True}, headers=token)
        await ask("DELETE", granting, headers=token)
        await ask("GET", "/health/ready")
        await ask("GET", "/.well-known/jwks.json")
        await ask("POST", "/revoke", data={"token": pair["access_token"]})
