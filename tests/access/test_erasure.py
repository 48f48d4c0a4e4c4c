"""Erasure: what goes, what stays, who may do it, and that no table is forgotten."""

import uuid
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError

from app.access import erasure
from app.access.client_registry import delete_client
from app.access.grants import grant
from app.db.base import Base
from app.identity import account_writes
from app.identity.account_writes import create_service
from app.identity.erasure import KEPT_COLUMNS, emptied, references
from app.identity.models import Session, User
from app.items.models import Item
from app.ops.housekeeping import BATCH
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.browsing import Application, PersonsBrowser, register
from tests.support.clock import MovableClock
from tests.support.factories import (
    OPERATOR,
    PASSWORD,
    Someone,
    bearer,
    login,
    make_user,
    sign_in,
)
from tests.support.housekeeping import house
from tests.support.leftovers import dump_of, places_of
from tests.support.letters import delivered, make_reachable, only_mail, token_in
from tests.support.personal_tokens import ask_for_token, personal_token

ADDRESS = "Mirabella@quint.example"
NAME = "Mirabella.Quint@shop.example"
"""Alice's is too short to be looked for."""


async def erase_me(
    client: httpx2.AsyncClient, header: dict[str, str], password: str = PASSWORD
) -> httpx2.Response:
    """What DELETE /users/me answers."""
    body = {"current_password": password}
    return await client.request("DELETE", "/users/me", json=body, headers=header)


async def erase_user(
    client: httpx2.AsyncClient, header: dict[str, str], user_id: uuid.UUID
) -> httpx2.Response:
    return await client.delete(f"/users/{user_id}", headers=header)


async def rows_of(runtime: Runtime, user_id: uuid.UUID) -> dict[str, int]:
    """How many rows of each table are the user's, or mention them."""
    found = {}
    async with runtime.sessions() as db:
        for column, _ in references():
            counted = select(func.count()).select_from(column.table).where(column == user_id)
            found[f"{column.table.name}.{column.name}"] = await db.scalar(counted) or 0
    return found


async def live_a_life(runtime: Runtime, mira: Someone, app: Application) -> None:
    """Leave rows in every table that people leave rows in."""
    async with client_of(runtime) as client:
        header = await bearer(client, mira)
        assert (await client.get("/users/me", headers=header)).status_code == 200
        lamp = {"title": f"Lamp of {mira.username}", "description": mira.username}
        await client.post("/items", json=lamp, headers=header)
        await login(client, mira, password="wrong")
        browser = PersonsBrowser(client)
        await browser.sign_in(mira)
        await browser.let_in(app)
        await browser.code(app)


async def test_after_an_erasure_no_column_and_no_dump_has_the_name(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, own_database_url: str
) -> None:
    """Whether the person acted, or others did something to them."""
    runtime = own_runtime
    root = await make_user(runtime, "admin")
    mira = await make_user(runtime, "admin", "read:items", "write:items", username=NAME)
    app = await register(runtime)
    await live_a_life(runtime, mira, app)
    other = await make_user(runtime)
    by_mira, by_root = await bearer(own_client, mira), await bearer(own_client, root)
    for header, to, reason in (
        (by_mira, other.id, None),
        (by_root, mira.id, f"{NAME} is on call"),
    ):
        granted = {"reason": reason}
        path = f"/users/{to}/grants/read:users"
        answer = await own_client.put(path, json=granted, headers=header)
        assert answer.status_code < 300, answer.text
    for name in (f"other.{NAME}", NAME):
        path = f"/users/{mira.id}"
        await own_client.patch(path, json={"username": name}, headers=by_root)
    assert await places_of(runtime, NAME) == {
        "grants.reason",
        "items.title",
        "items.description",
        "users.username",
        "users.username_key",
    }
    assert NAME.lower() in dump_of(own_database_url)
    assert (await erase_me(own_client, by_mira)).status_code == 204
    assert await places_of(runtime, NAME) == set()
    assert NAME.lower() not in dump_of(own_database_url)
    assert set((await rows_of(runtime, mira.id)).values()) == {0}
    assert (await rows_of(runtime, other.id))["grants.user_id"] == 1, "what was granted stays"


async def test_after_an_erasure_no_column_and_no_dump_has_an_address(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, own_database_url: str
) -> None:
    """Nor a name that the person gave to a token: with links, and with mails that still wait."""
    runtime = own_runtime
    mira = await make_reachable(runtime, "read:items", email=ADDRESS, username=NAME)
    header = await bearer(own_client, mira)
    for email in ("first.quint@example.com", "second.quint@example.com"):
        change = {"email": email, "current_password": PASSWORD}
        asked = await own_client.post("/users/me/email", json=change, headers=header)
        assert asked.status_code == 202
        if email.startswith("first"):
            token = token_in(await only_mail(runtime))
            confirm = {"token": token}
            done = await own_client.post("/email-verification/confirm", json=confirm)
            assert done.status_code == 204
    named = await ask_for_token(own_client, runtime, header, "read:items", name=f"Of {NAME}")
    assert named.status_code == 201
    words = (NAME, ADDRESS, "quint")
    assert await places_of(runtime, *words) >= {
        *("users.email", "users.email_key", "account_links.email", "sessions.token_name"),
    }
    assert (await erase_me(own_client, header)).status_code == 204
    assert await places_of(runtime, *words) == set()
    dump = dump_of(own_database_url)
    assert not [each for each in words if each.lower() in dump]
    # What she asked for before makes no mail, and no link, any more.
    assert await delivered(runtime) == []
    assert set((await rows_of(runtime, mira.id)).values()) == {0}


async def test_a_personal_token_stops_at_once_with_its_owners_erasure(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    mira = await make_user(own_runtime, "read:items")
    token = await personal_token(own_client, own_runtime, mira, "read:items")
    assert await token.works()
    header = await bearer(own_client, mira)
    assert (await erase_me(own_client, header)).status_code == 204
    # Not 503, as for a session that this process's database may lack.
    assert await token.status() == 401


async def test_the_rows_own_row_goes_with_housekeeping(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    mira = await make_user(own_runtime, username=NAME)
    assert (await erase_me(own_client, await bearer(own_client, mira))).status_code == 204
    await house(own_runtime.sessions, now=clock())
    assert await has_row(own_runtime, mira), "requests that are under way still find it"
    clock.move(minutes=2)
    await house(own_runtime.sessions, now=clock())
    assert not await has_row(own_runtime, mira)


async def has_row(runtime: Runtime, user: Someone) -> bool:
    async with runtime.sessions() as db:
        return await db.get(User, user.id) is not None


async def test_an_erased_account_is_no_user_any_more(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    root, mira = await make_user(runtime, "admin"), await make_user(runtime, username=NAME)
    header = await bearer(client, root)
    tokens = await sign_in(client, mira)
    assert (await erase_user(client, header, mira.id)).status_code == 204
    assert await tokens.status() == 401
    assert (await login(client, mira)).status_code == 400
    path = f"/users/{mira.id}"
    for method, which, body in [
        ("GET", path, None),
        ("GET", f"{path}/grants", None),
        ("GET", f"{path}/sessions", None),
        ("GET", f"{path}/secrets", None),
        ("DELETE", path, None),
        ("PATCH", path, {"disabled": False}),
        ("PATCH", path, {"username": "someone"}),
        ("POST", f"{path}/password", {"password": "another long password"}),
        ("POST", f"{path}/secrets", None),
        ("PUT", f"{path}/grants/read:items", {}),
        ("DELETE", f"{path}/grants/read:items", None),
        ("DELETE", f"{path}/sessions", None),
    ]:
        answer = await client.request(method, which, json=body, headers=header)
        assert answer.status_code == 404, (method, which, answer.text)
    listed = (await client.get("/users", headers=header)).json()
    assert [each["username"] for each in listed["items"]] == [root.username]
    assert listed["count"] == 1
    page = (await client.get("/audit", params={"user": str(mira.id)}, headers=header)).json()
    assert page["items"][0]["action"] == "account.erased"
    assert str(mira.id) not in page["names"]
    assert page["names"] == {str(root.id): root.username}
    assert NAME not in str(page)


async def test_the_database_itself_lets_no_erased_account_come_back(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    mira = await make_user(own_runtime)
    await erase_me(own_client, await bearer(own_client, mira))
    for change in ({"disabled_at": None}, {"password_hash": "any"}):
        async with own_runtime.sessions() as db:
            with pytest.raises(IntegrityError, match="ck_users_erased"):
                await db.execute(update(User).where(User.id == mira.id).values(**change))


async def test_oneself_is_erased_by_the_current_password_alone(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    mira = await make_user(runtime, username=NAME)
    tokens = await sign_in(client, mira)
    wrong = await erase_me(client, tokens.header, "wrong")
    assert (wrong.status_code, wrong.json()["detail"]) == (403, "The current password is wrong.")
    for body in ({}, {"current_password": None}):
        answer = await client.request("DELETE", "/users/me", json=body, headers=tokens.header)
        assert answer.status_code == 422
    assert await tokens.works()
    assert (await erase_me(client, tokens.header)).status_code == 204
    assert await tokens.status() == 401
    assert (await erase_me(client, tokens.header)).status_code == 401
    async with runtime.sessions() as db:
        assert await told(db, "account.erased") == [(mira.id, mira.id, {"kind": "person"})]
        ((_, _, detail),) = await told(db, "login.failed")
        assert detail == {"reason": "wrong current password"}


async def test_wrong_passwords_are_throttled_in_the_session(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    mira = await make_user(runtime)
    header = await bearer(client, mira)
    statuses = [(await erase_me(client, header, "wrong")).status_code for _ in range(12)]
    assert statuses[0] == 403
    assert statuses[-1] == 429
    assert (await erase_me(client, header)).status_code == 429, "not even the right one"


async def test_no_application_erases_the_person_who_let_it_in(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    mira = await make_user(runtime, "read:items", "write:users")
    app, browser = await register(runtime, scopes=["read:items", "write:users"]), None
    browser = PersonsBrowser(client)
    await browser.sign_in(mira)
    tokens = await browser.let_in(app, scope="read:items write:users")
    for answer in (
        await erase_me(client, tokens.header),
        await erase_user(client, tokens.header, mira.id),
    ):
        assert answer.status_code == 403
        assert "do it yourself" in answer.json()["detail"]
    assert await tokens.works()


async def test_a_token_alone_never_erases_its_own_account(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    await make_user(runtime, "admin")
    mira = await make_user(runtime, "write:users")
    tokens = await sign_in(client, mira)
    answer = await erase_user(client, tokens.header, mira.id)
    assert answer.status_code == 403
    assert "with your password" in answer.json()["detail"]
    assert await tokens.works()


async def test_who_manages_users_erases_none_that_hold_more(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    manager = await make_user(runtime, "write:users", "read:items")
    plain, more = await make_user(runtime, "read:items"), await make_user(runtime, "read:audit")
    header = await bearer(client, manager)
    assert (await erase_user(client, header, more.id)).status_code == 403
    assert (await erase_user(client, header, plain.id)).status_code == 204
    assert (await erase_user(client, header, uuid.uuid4())).status_code == 404
    reader = await bearer(client, await make_user(runtime, "read:users"))
    assert (await erase_user(client, reader, more.id)).status_code == 403
    assert (await client.delete(f"/users/{more.id}")).status_code == 401


async def test_the_last_admin_is_never_erased(runtime: Runtime, client: httpx2.AsyncClient) -> None:
    root = await make_user(runtime, "admin")
    soon = await make_user(runtime, "admin", expires_at=runtime.now() + timedelta(hours=1))
    by_root, by_soon = await bearer(client, root), await bearer(client, soon)
    for answer in (
        await erase_me(client, by_root),
        await erase_user(client, by_root, root.id),
        await erase_user(client, by_soon, root.id),
    ):
        assert answer.status_code == 409, answer.text
        assert "No other enabled user holds admin" in answer.json()["detail"]
    await make_user(runtime, "admin")
    assert (await erase_user(client, by_soon, root.id)).status_code == 204


async def test_a_clients_account_goes_only_after_its_client(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    runtime = own_runtime
    header = await bearer(own_client, await make_user(runtime, "admin"))
    await register(runtime, "shop", confidential=True)
    async with runtime.sessions() as db:
        account = await db.scalar(select(User.id).where(User.username == "shop"))
    assert account is not None
    answer = await erase_user(own_client, header, account)
    assert answer.status_code == 409
    assert answer.json()["detail"] == "This account belongs to a client: delete the client first."
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, "shop")
    assert (await erase_user(own_client, header, account)).status_code == 204
    clock.move(minutes=2)
    await house(runtime.sessions, now=clock())
    async with runtime.sessions() as db:
        assert await db.get(User, account) is None


async def test_a_service_account_is_erased_with_its_secrets(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    header = await bearer(client, await make_user(runtime, "admin"))
    async with runtime.work(OPERATOR) as work:
        robot, secret = await create_service(work, username="robot")
        await grant(work, robot.id, "read:items")
    form = {"grant_type": "client_credentials"}
    issued = await client.post("/token", data=form, auth=("robot", secret.value))
    own = {"Authorization": f"Bearer {issued.json()['access_token']}"}
    assert (await erase_me(client, own, secret.value)).status_code == 403, "it has no password"
    assert (await erase_user(client, header, robot.id)).status_code == 204
    assert (await client.post("/token", data=form, auth=("robot", secret.value))).status_code == 401
    assert (await client.get("/users/me", headers=own)).status_code == 401


async def test_an_account_with_more_rows_than_go_at_once_stops_at_once_and_goes_in_batches(
    own_runtime: Runtime,
    own_client: httpx2.AsyncClient,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(account_writes, "ERASED_AT_ONCE", 10)
    runtime = own_runtime
    mira = await make_user(runtime, "read:items", username=NAME)
    tokens = await sign_in(own_client, mira)
    many = 2 * BATCH + 1
    async with runtime.work(OPERATOR) as work:
        until = work.now + timedelta(days=1)
        terms: dict[str, Any] = {"user_id": mira.id, "scopes": [], "refresh_key": b""}
        work.db.add_all(
            Session(**terms, expires_at=until, idle_expires_at=until) for _ in range(many)
        )
        work.db.add_all(Item(owner_id=mira.id, title="Lamp") for _ in range(many))
    assert (await erase_me(own_client, tokens.header)).status_code == 204
    assert await tokens.status() == 401
    left = await rows_of(runtime, mira.id)
    assert left["sessions.user_id"] == many + 1 - 10
    assert await places_of(runtime, NAME) == set()
    await house(runtime.sessions, now=clock())
    assert set((await rows_of(runtime, mira.id)).values()) == {0}
    clock.move(minutes=2)
    await house(runtime.sessions, now=clock())
    assert not await has_row(runtime, mira)


def test_every_column_that_refers_to_users_says_what_becomes_of_its_row() -> None:
    """A table that is added later can't be forgotten: `ON DELETE CASCADE`, or `SET NULL`.

    The account of a deleted client is the one exception: see `access.erasure.BelongsToClient`.
    """
    rules = {f"{column.table.name}.{column.name}": key.ondelete for column, key in references()}
    assert len(rules) >= 9
    assert {name for name, rule in rules.items() if rule is None} == {"clients.account_id"}
    assert set(rules.values()) <= {"CASCADE", "SET NULL", None}
    for column, key in references():
        if key.ondelete != "CASCADE":
            assert column.nullable, column


async def test_each_reference_to_users_has_an_index(runtime: Runtime) -> None:
    """Else an erasure reads a whole table."""
    indexed = text(
        "SELECT 1 FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] "
        "WHERE indrelid = CAST(:table AS regclass) AND attname = :column AND indpred IS NULL"
    )
    async with runtime.sessions() as db:
        for column, _ in references():
            values = {"table": column.table.name, "column": column.name}
            assert await db.scalar(indexed, values), column


def test_the_database_has_the_same_references(runtime: Runtime) -> None:
    """Nothing but foreign keys leads to a person: no table names a user in another column."""
    ids = {"user_id", "owner_id", "account_id", "granted_by", "created_by", "username"}
    for table in Base.metadata.sorted_tables:
        referring = {column.name for column, _ in references() if column.table is table}
        unbound = {each.name for each in table.columns} & ids - referring
        assert unbound <= ({"username"} if table.name == "users" else set()), table


def test_an_emptied_row_keeps_no_column_that_tells_of_a_person() -> None:
    """A column that is added later is emptied, or the test that adds a row to keep it fails."""
    values = emptied(uuid.uuid4(), now=User.created_at.type.python_type.now())
    table = Base.metadata.tables["users"]
    assert values.keys() | KEPT_COLUMNS == set(table.columns.keys())
    assert {"id", "kind", "created_at", "ended_epoch", "link_epoch"} == KEPT_COLUMNS
    for name, value in values.items():
        assert value is not None or table.columns[name].nullable, name


async def test_a_session_that_has_ended_can_erase_nothing(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    """As a request that waited behind a sign-out finds."""
    from app.access.authority import Caller
    from app.errors import InvalidToken
    from tests.support.factories import signed_in

    mira = await make_user(runtime)
    caller: Caller = await signed_in(runtime, mira)
    assert caller.session_id is not None
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(update(Session).values(ended_at=work.now, end_reason="x"))
    with pytest.raises(InvalidToken):
        await erasure.erase_oneself(
            runtime.guard, caller, session_id=caller.session_id, password=PASSWORD
        )
