"""Each type of event: what the API does, and what a person with psql does."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.browsing import PersonsBrowser, register
from tests.support.factories import PASSWORD, SignedIn, Someone, bearer, make_user, sign_in
from tests.support.keys import rotate
from tests.support.many_sessions import NEW_PASSWORD, open_many
from tests.support.personal_tokens import personal_token
from tests.support.statements import execute
from tests.support.streams import Happened, Reader, following_events, of_session, of_user

SESSION, GRANTS = "session-revoked", "grants-changed"


@dataclass
class World:
    """Alice, whose sessions a test ends, an admin, and a service that follows."""

    runtime: Runtime
    client: httpx2.AsyncClient
    alice: Someone
    signed_in: SignedIn
    admin: dict[str, str]
    reader: Reader

    @property
    def issuer(self) -> str:
        return self.runtime.streams.issuer

    async def session_id(self, signed_in: SignedIn | None = None) -> uuid.UUID:
        header = (signed_in or self.signed_in).header
        listed = await self.client.get("/users/me/sessions", headers=header)
        (own,) = (each["id"] for each in listed.json()["items"] if each["current"])
        return uuid.UUID(own)

    async def ask(self, method: str, path: str, **what: Any) -> None:
        headers = what.pop("headers", self.admin)
        answer = await self.client.request(method, path, headers=headers, **what)
        assert answer.is_success, answer.text

    async def happened(self) -> list[Happened]:
        """What was sent until all that was committed before this call had been sent."""
        await self.reader.proven()
        return self.reader.happened()

    def of_alice(self, *types: str) -> list[Happened]:
        return [Happened(each, of_user(self.issuer, self.alice.id)) for each in types]

    def of_session(self, session_id: uuid.UUID, kind: str = SESSION) -> Happened:
        return Happened(kind, of_session(self.issuer, self.alice.id, session_id))

    def of_all(self, kind: str) -> Happened:
        return Happened(kind, {"format": "opaque", "id": self.issuer})


@asynccontextmanager
async def world_of(runtime: Runtime) -> AsyncIterator[World]:
    async with client_of(runtime) as client:
        alice = await make_user(runtime, "read:items", username="alice")
        signed_in = await sign_in(client, alice)
        admin = await bearer(client, await make_user(runtime, "admin"))
        follower = await bearer(client, await make_user(runtime, "read:events"))
        async with following_events(runtime, follower) as reader:
            yield World(runtime, client, alice, signed_in, admin, reader)


@pytest.fixture
async def world(own_runtime: Runtime) -> AsyncIterator[World]:
    async with world_of(own_runtime) as world:
        yield world


async def test_a_session_that_is_signed_out_is_told_with_its_user(world: World) -> None:
    session_id = await world.session_id()
    await world.ask("DELETE", f"/users/me/sessions/{session_id}", headers=world.signed_in.header)
    assert await world.happened() == [world.of_session(session_id)]


async def test_a_revoked_token_ends_its_session(world: World) -> None:
    session_id = await world.session_id()
    await world.ask("POST", "/revoke", data={"token": world.signed_in.token})
    assert await world.happened() == [world.of_session(session_id)]


async def test_a_session_that_an_admin_ends_is_told(world: World) -> None:
    session_id = await world.session_id()
    await world.ask("DELETE", f"/users/{world.alice.id}/sessions/{session_id}")
    assert await world.happened() == [world.of_session(session_id)]


async def test_a_refresh_token_that_is_used_again_ends_its_session(world: World) -> None:
    session_id, used = await world.session_id(), world.signed_in.refresh_token
    assert await world.signed_in.refresh() == 200
    assert await world.signed_in.refresh() == 200
    assert await world.signed_in.refresh(used) == 400
    assert await world.happened() == [world.of_session(session_id)]


async def token_of(world: World) -> SignedIn:
    return await personal_token(world.client, world.runtime, world.alice, "read:items")


async def test_a_personal_token_that_is_revoked_is_told_as_a_session(world: World) -> None:
    token = await token_of(world)
    before = len(await world.happened())
    token_id = uuid.UUID(token.tokens["id"])
    path = f"/users/me/tokens/{token_id}"
    await world.ask("DELETE", path, headers=world.signed_in.header)
    assert (await world.happened())[before:] == [world.of_session(token_id)]


async def test_a_change_of_ones_own_password_is_told_without_the_tokens_that_go_on(
    world: World,
) -> None:
    other = await world.session_id(await sign_in(world.client, world.alice))
    token = await token_of(world)
    before = len(await world.happened())
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    own = world.signed_in.header
    await world.ask("POST", "/users/me/password", json=body, headers=own)
    assert await token.works()
    assert (await world.happened())[before:] == [*world.of_alice(GRANTS), world.of_session(other)]


async def test_tokens_that_end_with_all_sessions_are_told_by_one_event(world: World) -> None:
    for _ in range(20):
        await token_of(world)
    before = len(await world.happened())
    await world.ask("DELETE", f"/users/{world.alice.id}/sessions")
    assert (await world.happened())[before:] == world.of_alice(SESSION)


@pytest.mark.parametrize("number", [1, 20])
async def test_personal_tokens_that_are_deleted_by_sql_are_told(world: World, number: int) -> None:
    tokens = [await token_of(world) for _ in range(number)]
    before = len(await world.happened())
    await execute(world.runtime, "DELETE FROM personal_tokens")
    if number == 1:
        told_of = {"format": "opaque", "id": tokens[0].tokens["id"]}
        assert (await world.happened())[before:] == [Happened("token-revoked", told_of)]
    else:
        await world.reader.next("everything")


async def test_all_sessions_of_a_user_that_end_by_one_act_are_one_event(world: World) -> None:
    await open_many(world.runtime, world.alice.id, 200)
    await world.ask("DELETE", f"/users/{world.alice.id}/sessions")
    assert await world.happened() == world.of_alice(SESSION)


async def test_a_change_of_password_tells_of_every_session_but_the_callers(world: World) -> None:
    """And of the user: the session of a login that overlaps with it can't be told."""
    others = [await world.session_id(await sign_in(world.client, world.alice)) for _ in range(3)]
    passwords = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    await world.ask("POST", "/users/me/password", headers=world.signed_in.header, json=passwords)
    happened = await world.happened()
    told = [*(world.of_session(each) for each in others), *world.of_alice(GRANTS)]
    assert sorted(map(str, happened)) == sorted(map(str, told))
    assert await world.signed_in.works()


async def test_past_a_hundred_sessions_but_the_callers_the_user_is_asked_about_again(
    world: World,
) -> None:
    await open_many(world.runtime, world.alice.id, 101)
    passwords = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    await world.ask("POST", "/users/me/password", headers=world.signed_in.header, json=passwords)
    assert await world.happened() == world.of_alice(GRANTS)


async def test_a_user_who_is_disabled_and_enabled_is_told(world: World) -> None:
    await world.ask("PATCH", f"/users/{world.alice.id}", json={"disabled": True})
    assert await world.happened() == world.of_alice(SESSION, "account-disabled")
    await world.ask("PATCH", f"/users/{world.alice.id}", json={"disabled": False})
    assert (await world.happened())[2:] == world.of_alice("account-enabled")


async def test_a_grant_that_is_made_or_revoked_is_told_without_its_scope(world: World) -> None:
    await world.ask("PUT", f"/users/{world.alice.id}/grants/write:items")
    await world.ask("DELETE", f"/users/{world.alice.id}/grants/read:items")
    assert await world.happened() == world.of_alice(GRANTS, GRANTS)
    assert "items" not in str(world.reader.frames)


async def test_a_scope_that_is_registered_or_removed_is_told(world: World) -> None:
    await world.ask("PUT", "/scopes/x:y", json={"description": "another service's"})
    await world.ask("DELETE", "/scopes/x:y")
    assert await world.happened() == [world.of_all("scopes-changed")] * 2


async def test_a_client_whose_ceiling_changes_or_that_goes_is_told_by_its_id(world: World) -> None:
    await register(world.runtime, "app")
    change = {"scopes": ["read:items"]}
    await world.ask("PATCH", "/clients/app", json={"name": "Another"})
    await world.ask("PATCH", "/clients/app", json=change)
    await world.ask("DELETE", "/clients/app")
    told = Happened("client-changed", {"format": "opaque", "id": "app"})
    assert await world.happened() == [told] * 2, "a name takes nothing away"


async def test_a_withdrawn_consent_ends_its_sessions_one_by_one(world: World) -> None:
    app = await register(world.runtime, "app")
    browser = PersonsBrowser.of(world.runtime)
    async with browser.client:
        await browser.sign_in(world.alice)
        tokens = await browser.let_in(app)
    session_id = await world.session_id(tokens)
    await world.happened()
    path = "/users/me/applications/app"
    await world.ask("DELETE", path, headers=world.signed_in.header)
    assert await world.happened() == [world.of_session(session_id), *world.of_alice(GRANTS)]


async def test_a_rotated_key_is_told(world: World) -> None:
    await rotate(world.runtime)
    assert await world.happened() == [world.of_all("keys-changed")]


async def test_a_renamed_user_is_asked_about_again(world: World) -> None:
    await world.ask("PATCH", f"/users/{world.alice.id}", json={"username": "alicia"})
    assert await world.happened() == world.of_alice(GRANTS)


async def test_logins_and_refreshes_are_no_events(world: World) -> None:
    await sign_in(world.client, world.alice)
    assert await world.signed_in.refresh() == 200
    assert await world.happened() == []


END_NOW = "ended_at = now(), end_reason = 'by hand'"
BY_SQL: dict[str, list[str]] = {
    f"UPDATE sessions SET {END_NOW} WHERE id = :session": ["session session-revoked"],
    "UPDATE sessions SET expires_at = now() WHERE id = :session": ["session session-revoked"],
    "UPDATE sessions SET idle_expires_at = now() WHERE id = :session": ["session session-revoked"],
    "DELETE FROM sessions WHERE id = :session": ["session session-revoked"],
    # It ends sooner than it would have: what is left of it is asked for.
    "UPDATE sessions SET expires_at = now() + interval '1 hour' WHERE id = :session": [
        "session grants-changed"
    ],
    "UPDATE users SET session_epoch = session_epoch + 1 WHERE id = :user": [SESSION],
    "UPDATE users SET disabled_at = now() WHERE id = :user": [SESSION, "account-disabled"],
    "UPDATE users SET username = 'other' WHERE id = :user": [GRANTS],
    "DELETE FROM users WHERE id = :user": ["account-purged", GRANTS],
    "INSERT INTO grants (user_id, scope) VALUES (:user, 'admin')": [GRANTS],
    "UPDATE grants SET expires_at = now() WHERE user_id = :user": [GRANTS],
    "DELETE FROM grants WHERE user_id = :user": [GRANTS],
    "INSERT INTO scopes (name, description) VALUES ('x', 'x')": ["all scopes-changed"],
    "UPDATE signing_keys SET retires_at = now() + interval '1 hour'": ["all keys-changed"],
}


@pytest.mark.parametrize("statement", BY_SQL)
async def test_what_psql_does_is_told_by_its_type(world: World, statement: str) -> None:
    session_id = await world.session_id()
    await execute(
        world.runtime,
        statement,
        **{
            name: value
            for name, value in {"user": world.alice.id, "session": session_id}.items()
            if f":{name}" in statement
        },
    )
    expected = []
    for each in BY_SQL[statement]:
        match each.split():
            case ["session", kind]:
                expected.append(world.of_session(session_id, kind))
            case ["all", kind]:
                expected.append(world.of_all(kind))
            case [kind]:
                expected += world.of_alice(kind)
    assert await world.happened() == expected


async def test_many_rows_of_one_user_are_one_event(world: World) -> None:
    await execute(
        world.runtime,
        "INSERT INTO scopes SELECT 'x:' || n, 'x' FROM generate_series(1, 500) AS n",
    )
    await execute(
        world.runtime,
        "INSERT INTO grants (user_id, scope) SELECT :user, 'x:' || n "
        "FROM generate_series(1, 500) AS n",
        user=world.alice.id,
    )
    assert await world.happened() == [world.of_all("scopes-changed"), *world.of_alice(GRANTS)]


async def test_of_many_sessions_that_are_ended_by_hand_no_more_than_a_hundred_are_named(
    world: World,
) -> None:
    await open_many(world.runtime, world.alice.id, 150)
    await execute(
        world.runtime, f"UPDATE sessions SET {END_NOW} WHERE user_id = :user", user=world.alice.id
    )
    happened = await world.happened()
    assert [each.type for each in happened] == [SESSION] * 100 + [GRANTS]
    assert happened[-1:] == world.of_alice(GRANTS)


async def test_an_opaque_token_that_is_revoked_by_itself_is_told_by_its_id(world: World) -> None:
    async with world.runtime.engine.begin() as connection:
        token_id = await connection.scalar(
            text(
                "INSERT INTO opaque_tokens "
                "SELECT '\\x00', id, gen_random_uuid(), '{}', now(), now() + interval '1 hour' "
                "FROM sessions LIMIT 1 RETURNING token_id"
            )
        )
    await execute(world.runtime, "DELETE FROM opaque_tokens")
    told = [Happened("token-revoked", {"format": "opaque", "id": str(token_id)})]
    assert await world.happened() == told


@pytest.mark.parametrize(
    "table", ["users", "sessions", "grants", "opaque_tokens", "personal_tokens"]
)
async def test_a_truncated_table_is_everything(world: World, table: str) -> None:
    await execute(world.runtime, f"TRUNCATE {table} CASCADE")
    assert await world.reader.next("everything") == ("everything", {})


async def test_an_event_that_this_version_does_not_know_is_everything(world: World) -> None:
    payload = f"passkey-removed {world.alice.id}"
    await execute(world.runtime, f"SELECT pg_notify('scopegate_events', '{payload}')")
    assert await world.reader.next("everything") == ("everything", {})


async def test_what_is_rolled_back_is_no_event(world: World) -> None:
    async with world.runtime.engine.connect() as connection:
        await connection.execute(text("DELETE FROM grants"))
        await connection.rollback()
    assert await world.happened() == []


async def test_a_set_has_the_claims_of_a_security_event_token(world: World) -> None:
    """RFC 8417: one event, `sub_id` at the top, no `sub`, no `exp`; whole seconds."""
    await world.ask("DELETE", f"/users/{world.alice.id}/sessions")
    _, claims = await world.reader.next("set")
    assert claims.keys() == {"iss", "jti", "iat", "sub_id", "events"}
    uri = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
    assert claims["events"] == {uri: {"event_timestamp": claims["iat"]}}
    assert isinstance(claims["iat"], int)
    await world.ask("PATCH", f"/users/{world.alice.id}", json={"disabled": True})
    _, later = await world.reader.next("set")
    assert later["jti"] != claims["jti"]


async def test_an_erased_account_is_told_as_purged_at_once_and_by_no_name(world: World) -> None:
    body = {"current_password": PASSWORD}
    header = world.signed_in.header
    await world.ask("DELETE", "/users/me", json=body, headers=header)
    happened = await world.happened()
    expected = world.of_alice("account-purged", SESSION, "account-disabled", GRANTS)
    assert sorted(happened) == sorted(expected)
    assert world.alice.username not in str(world.reader.frames)
