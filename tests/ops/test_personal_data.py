"""The export of what is kept about a person: all of it, theirs alone, and no secret."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from sqlalchemy import event, text

from app.access.grants import grant
from app.db.base import Base
from app.identity.account_writes import create_service
from app.ops.personal_data import LEFT_OUT, PAGE, SECTIONS, export_of
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.browsing import PersonsBrowser, register
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, bearer, login, make_user, sign_in

pytestmark = pytest.mark.usefixtures("token_kind")


async def export(client: httpx2.AsyncClient, header: dict[str, str]) -> dict[str, Any]:
    """What GET /users/me/export answers."""
    answer = await client.get("/users/me/export", headers=header)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert 'filename="scopegate-export.json"' in answer.headers["content-disposition"]
    found: dict[str, Any] = answer.json()
    return found


async def test_it_has_everything_that_is_kept_about_the_person(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    mira = await make_user(runtime, "read:items", "write:items", username="Mirabella")
    tokens = await sign_in(client, mira)
    lamp = {"title": "Lamp", "description": "For the desk"}
    await client.post("/items", json=lamp, headers=tokens.header)
    await login(client, mira, password="wrong")
    async with runtime.work(OPERATOR) as work:
        await grant(work, mira.id, "read:users", reason="on call")
    app = await register(runtime)
    async with client_of(runtime) as other:
        browser = PersonsBrowser(other)
        await browser.sign_in(mira)
        await browser.let_in(app)
    found = await export(client, tokens.header)
    assert set(found) == {"exported_at", *SECTIONS, "audit"}
    account = found["account"]
    assert (account["id"], account["username"]) == (str(mira.id), "Mirabella")
    assert account["last_sign_in_at"] is not None
    granted = {each["scope"]: each["reason"] for each in found["grants"]}
    assert granted == {"read:items": None, "write:items": None, "read:users": "on call"}
    assert len(found["sessions"]) == 3
    assert {each["client_id"] for each in found["sessions"]} == {None, "app"}
    assert len(found["known_networks"]) == 1
    ((consent),) = found["consents"]
    assert (consent["client_id"], consent["name"]) == ("app", "An app")
    ((item),) = found["items"]
    assert (item["title"], item["description"]) == ("Lamp", "For the desk")
    actions = [each["action"] for each in found["audit"]]
    assert actions[0] == "user.created"
    assert actions[-1] == "account.exported"
    assert {"login.succeeded", "login.failed", "grant.made", "consent.given"} <= set(actions)


async def test_no_hash_digest_or_key_is_in_it(runtime: Runtime, client: httpx2.AsyncClient) -> None:
    async with runtime.work(OPERATOR) as work:
        _, secret = await create_service(work, username="robot")
    form = {"grant_type": "client_credentials"}
    issued = await client.post("/token", data=form, auth=("robot", secret.value))
    header = {"Authorization": f"Bearer {issued.json()['access_token']}"}
    found = await export(client, header)
    assert [each["id"] for each in found["secrets"]] == [str(secret.id)]
    mira = await make_user(runtime)
    text = json.dumps([found, await export(client, await bearer(client, mira))])
    for hidden in ("argon2", "digest", "refresh_key", "hash", "skeleton", "username_key"):
        assert hidden not in text


async def test_nothing_of_another_person_is_in_it(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    """Not even of those who acted: their ids alone, and not where they were or who ran it."""
    root = await make_user(runtime, "admin", username="root-of-all")
    mira, other = await make_user(runtime), await make_user(runtime, username="another-one")
    header = await bearer(client, root)
    for user in (mira, other):
        await client.put(f"/users/{user.id}/grants/read:items", json={}, headers=header)
    found = await export(client, await bearer(client, mira))
    text = json.dumps(found)
    for word in ("root-of-all", "another-one", str(other.id)):
        assert word not in text
    (by_root,) = [each for each in found["audit"] if each["actor"] == str(root.id)]
    assert by_root["action"] == "grant.made"
    assert (by_root["address"], by_root["request_id"]) == (None, None)
    (own,) = [each for each in found["audit"] if each["action"] == "login.succeeded"]
    assert own["address"] is not None
    as_root = await export(client, header)
    assert {each["subject"] for each in as_root["audit"]} >= {str(mira.id), str(other.id)}
    assert "another-one" not in json.dumps(as_root)


async def test_who_ran_a_command_is_not_named(runtime: Runtime) -> None:
    from app.access.authority import Operator
    from app.db.work import Origin

    mira = await make_user(runtime)
    by = Operator(origin=Origin(operator="henrietta@machine"))
    async with runtime.work(by) as work:
        await grant(work, mira.id, "read:items")
    whole = b"".join(
        [each async for each in export_of(runtime.reading, mira.id, now=runtime.now())]
    )
    assert b"henrietta" not in whole
    assert json.loads(whole)["audit"][-1]["detail"]["scope"] == "read:items"


async def test_a_hundred_thousand_entries_are_sent_page_by_page(own_runtime: Runtime) -> None:
    mira = await make_user(own_runtime)
    many, rows = 100_000, 2 * PAGE + 1
    async with own_runtime.sessions.begin() as db:
        values = {"user": mira.id, "many": many, "rows": rows}
        await db.execute(
            text(
                "INSERT INTO audit_entries (id, action, actor, subject, detail) SELECT "
                "gen_random_uuid(), 'login.failed', CASE n % 2 WHEN 0 THEN CAST(:user AS uuid) "
                "END, :user, '{}' FROM generate_series(1, :many) n"
            ),
            values,
        )
        await db.execute(
            text(
                "INSERT INTO items (id, owner_id, title) SELECT gen_random_uuid(), :user, 'x' "
                "FROM generate_series(1, :rows)"
            ),
            values,
        )
        # As Postgres does by itself after a while.
        await db.execute(text("ANALYZE"))
    chunks: list[bytes] = []
    fetched: list[int] = []

    def note(_: Any, cursor: Any, *__: Any) -> None:
        fetched.append(cursor.rowcount)

    event.listen(own_runtime.engine.sync_engine, "after_cursor_execute", note)
    async for chunk in export_of(own_runtime.reading, mira.id, now=own_runtime.now()):
        chunks.append(chunk)
        assert own_runtime.pool.checkedout() == 0, "no connection is held while a client reads"
    event.remove(own_runtime.engine.sync_engine, "after_cursor_execute", note)
    assert max(map(len, chunks)) < PAGE * 1000
    assert max(fetched) <= PAGE
    found = json.loads(b"".join(chunks))
    assert len(found["items"]) == rows
    ids = [each["id"] for each in found["audit"]]
    assert len(ids) == many + 1
    assert ids == sorted(set(ids))


async def test_of_many_exports_at_once_five_are_made(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    header = await bearer(own_client, await make_user(own_runtime))
    asking = [own_client.get("/users/me/export", headers=header) for _ in range(12)]
    answers = await asyncio.gather(*asking)
    assert sorted(each.status_code for each in answers) == [200] * 5 + [429] * 7


async def test_it_is_audited_and_throttled(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    mira, other = await make_user(runtime), await make_user(runtime)
    for minutes in (0, 5, 5, 5, 5):
        clock.move(minutes=minutes)
        header = await bearer(client, mira)
        await export(client, header)
    answer = await client.get("/users/me/export", headers=header)
    assert answer.status_code == 429
    assert 2300 < int(answer.headers["retry-after"]) <= 2400, "an hour after the first of the five"
    await export(client, await bearer(client, other))
    async with runtime.sessions() as db:
        made = [actor for actor, _, _ in await told(db, "account.exported")]
    assert made == [mira.id] * 5 + [other.id]
    clock.move(hours=1, seconds=5)
    await export(client, await bearer(client, mira))


async def test_an_application_and_a_stranger_get_none(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    mira, app = await make_user(runtime, "read:items"), await register(runtime)
    browser = PersonsBrowser(client)
    await browser.sign_in(mira)
    tokens = await browser.let_in(app)
    answer = await client.get("/users/me/export", headers=tokens.header)
    assert answer.status_code == 403
    assert (await client.get("/users/me/export")).status_code == 401


def tables_of_people() -> set[str]:
    """The tables that refer to users, directly or by another that does."""
    found = {"users"}
    while True:
        more = {
            table.name
            for table in Base.metadata.sorted_tables
            if any(key.column.table.name in found for key in table.foreign_keys)
        }
        if more <= found:
            return found
        found |= more


def test_no_table_about_people_is_forgotten() -> None:
    """A table that refers to users is exported, or LEFT_OUT says why it is not."""
    exported = {section.table.name for section in SECTIONS.values()}
    assert exported | LEFT_OUT.keys() == tables_of_people()
    assert exported.isdisjoint(LEFT_OUT)
    assert all(LEFT_OUT.values())


@pytest.mark.parametrize("name", SECTIONS)
def test_every_column_is_exported_or_withheld_for_a_reason(name: str) -> None:
    """What is known by a digest or a key is withheld; a new column is decided about here."""
    section = SECTIONS[name]
    assert section.withheld.keys() <= set(section.table.columns.keys())
    shown = {column.name for column in section.columns}
    assert shown == EXPORTED[name]
    for column in section.columns:
        assert column.type.python_type is not bytes, column


EXPORTED = {
    "account": {
        *("id", "username", "kind", "disabled_at", "created_at", "last_sign_in_at"),
        *("email", "email_verified_at", "email_chosen_by"),
    },
    "grants": {"scope", "granted_at", "granted_by", "expires_at", "reason"},
    "sessions": {
        *("id", "created_at", "client_id", "consent_id", "scopes", "resources", "last_used_at"),
        *("expires_at", "idle_expires_at", "address", "user_agent", "rotated_at"),
        *("rotated_network", "rotated_user_agent", "ended_at", "end_reason"),
        "token_name",
    },
    "known_networks": {"network", "signed_in_at"},
    "consents": {
        *("id", "registration_id", "scopes", "implied", "hosts", "given_at", "last_used_at"),
    },
    "secrets": {"id", "created_at"},
    "links": {"id", "created_at", "purpose", "email", "expires_at"},
    "sign_up": {"expires_at"},
    "items": {"id", "created_at", "title", "description", "updated_at"},
}
"""What is exported. Whoever adds a column decides: here, or in SECTIONS."""
