"""Personal access tokens: what they may do, who makes them, and when they end."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select, text

from app.access.grants import grant, revoke
from app.access.personal_tokens import MOST_TOKENS
from app.access.scopes import MAX_SCOPES_BYTES
from app.identity.models import PersonalToken, Session
from app.runtime import Runtime
from tests.api.test_enforcement import work_of
from tests.conftest import client_of, settings_for
from tests.support.audit import told
from tests.support.browsing import PersonsBrowser, register
from tests.support.clock import MovableClock
from tests.support.factories import (
    OPERATOR,
    PASSWORD,
    SignedIn,
    Someone,
    bearer,
    make_user,
    sign_in,
    status,
)
from tests.support.personal_tokens import TOKENS, ask_for_token, personal_token
from tests.support.services import make_service
from tests.support.statements import execute

NEW_PASSWORD = "wrong donkey battery staple"


@pytest.fixture
async def own(client: httpx2.AsyncClient, alice: Someone) -> SignedIn:
    """A login of hers."""
    return await sign_in(client, alice)


@pytest.mark.every_token_kind
async def test_a_token_is_shown_once_works_and_is_listed_without_its_secret(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, own: SignedIn
) -> None:
    answer = await ask_for_token(client, runtime, own.header, "read:items", name=" backup ")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    value = made.pop("token")
    token = SignedIn(client, {"access_token": value})
    assert await token.works()
    assert await token.status("/items") == 200
    assert await token.status("/users") == 403
    listed = (await client.get(TOKENS, headers=own.header)).json()
    assert listed == {"items": [made], "next": None}
    assert (made["name"], made["scopes"]) == ("backup", ["read:items"])
    assert made["last_used_at"] is None
    async with runtime.sessions() as db:
        ((actor, subject, detail),) = await told(db, "token.made")
        kept = (await db.scalars(select(PersonalToken))).one()
        session = await db.get_one(Session, kept.session_id)
    # Where and with what it was made.
    assert session.address == "127.0.0.1"
    assert session.user_agent == client.headers["user-agent"]
    assert (actor, subject) == (alice.id, alice.id)
    assert detail["session"] == made["id"]
    assert detail["scopes"] == ["read:items"]
    assert "backup" not in str(detail)
    assert value.encode() not in kept.digest
    assert len(kept.digest) == 32


async def test_tokens_are_listed_by_page(
    client: httpx2.AsyncClient, runtime: Runtime, own: SignedIn
) -> None:
    for days in (3, 1, 2):
        ends = (runtime.now() + timedelta(days=days)).isoformat()
        name = f"for {days}"
        await ask_for_token(client, runtime, own.header, "read:items", name=name, expires_at=ends)
    first = (await client.get(f"{TOKENS}?limit=2", headers=own.header)).json()
    assert [each["name"] for each in first["items"]] == ["for 1", "for 2"]
    rest = (await client.get(f"{TOKENS}?after={first['next']}", headers=own.header)).json()
    assert [each["name"] for each in rest["items"]] == ["for 3"]
    assert rest["next"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"scopes": []},
        {"scopes": ...},
        {"scopes": None},
        {"scopes": "read:items"},
        {"name": ""},
        {"name": "   "},
        {"name": "\u200b"},
        {"name": "\u3164"},
        {"name": "\u0301"},
        {"name": "two\nlines"},
        {"name": "x" * 101},
        {"name": ...},
        {"expires_at": ...},
        {"expires_at": None},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T00:00:00Z"},
        {"expires_at": "2027-01-01"},
    ],
    ids=str,
)
async def test_a_token_needs_a_name_a_scope_and_an_end(
    client: httpx2.AsyncClient, runtime: Runtime, own: SignedIn, changes: dict[str, Any]
) -> None:
    """No scopes are not all scopes, and no end is not never."""
    answer = await ask_for_token(client, runtime, own.header, "read:items", **changes)
    assert answer.status_code == 422, answer.text
    assert (await client.get(TOKENS, headers=own.header)).json()["items"] == []


async def test_an_end_is_within_the_most_that_is_set(
    own_database_url: str, clock: MovableClock
) -> None:
    settings = settings_for(own_database_url, max_token_lifetime=7 * 86400)
    async with Runtime.open(settings, now=clock) as runtime, client_of(runtime) as client:
        header = await bearer(client, await make_user(runtime, "read:items"))
        for days, expected in ((7.01, 422), (6.99, 201)):
            ends = (runtime.now() + timedelta(days=days)).isoformat()
            answer = await ask_for_token(client, runtime, header, "read:items", expires_at=ends)
            assert answer.status_code == expected
        token = {"Authorization": f"Bearer {answer.json()['token']}"}
        clock.move(days=6.98)
        assert await status(client, token) == 200, "no time-out ends it before"
        clock.move(days=0.02)
        assert await status(client, token) == 401


async def test_a_token_is_never_made_for_another_user(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    """Whatever the body names."""
    bob = await make_user(runtime, "read:items")
    admin = await sign_in(client, await make_user(runtime, "admin"))
    for name in ("user_id", "id", "sub", "subject", "owner_id", "username", "session_id"):
        for value in (str(bob.id), bob.username):
            answer = await ask_for_token(
                client, runtime, admin.header, "read:items", **{name: value}
            )
            assert answer.status_code == 201
    async with runtime.sessions() as db:
        of_bob = select(func.count()).where(Session.user_id == bob.id)
        assert await db.scalar(of_bob) == 0
        of_bob = select(func.count()).where(PersonalToken.user_id == bob.id)
        assert await db.scalar(of_bob) == 0


async def test_a_token_has_no_scope_that_the_calling_token_lacks(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "read:items", "write:items", "read:users")
    narrow = await sign_in(client, user, scope="read:items write:items")
    for scope in ("read:users", "write:users", "admin", "no:such", "openid"):
        changes = {"confirm_admin": True}
        answer = await ask_for_token(client, runtime, narrow.header, "read:items", scope, **changes)
        assert answer.status_code == 403, scope
    async with runtime.work(OPERATOR) as work:
        await revoke(work, user.id, "write:items")
    answer = await ask_for_token(client, runtime, narrow.header, "write:items")
    assert answer.status_code == 403, "it was issued with this scope, which is revoked"
    assert (await ask_for_token(client, runtime, narrow.header, "read:items")).status_code == 201


async def test_admin_is_given_only_where_it_was_named_and_confirmed(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "admin")
    admin = await sign_in(client, user)
    for confirmed in (..., False, None, "true", 1):
        answer = await ask_for_token(
            client, runtime, admin.header, "admin", confirm_admin=confirmed
        )
        assert answer.status_code == 422, confirmed
    answer = await ask_for_token(client, runtime, admin.header, "admin", confirm_admin=True)
    token = SignedIn(client, {"access_token": answer.json()["token"]})
    assert await token.status("/scopes") == 200
    assert await token.status("/users") == 200
    answer = await ask_for_token(client, runtime, admin.header, "read:items", confirm_admin=True)
    token = SignedIn(client, {"access_token": answer.json()["token"]})
    assert await token.status("/items") == 200
    assert await token.status("/users") == 403, "an admin's token has what was named alone"
    answer = await ask_for_token(client, runtime, admin.header, "no:such")
    assert answer.status_code == 404
    answer = await ask_for_token(client, runtime, admin.header, "openid")
    assert answer.status_code == 403


async def test_a_token_never_outgrows_what_its_owner_is_granted(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "read:items", "read:users")
    token = await personal_token(client, runtime, user, "read:items", "read:users")
    assert await token.status("/users") == 200
    async with runtime.work(OPERATOR) as work:
        await revoke(work, user.id, "read:users")
        await grant(work, user.id, "read:audit")
    assert await token.status("/users") == 403
    assert await token.status("/audit") == 403
    assert await token.status("/items") == 200
    me = (await client.get("/users/me", headers=token.header)).json()
    assert me["scopes"] == ["read:items"]
    async with runtime.work(OPERATOR) as work:
        await grant(work, user.id, "admin")
    assert await token.status("/scopes") == 200
    assert await token.status("/audit") == 403, "it was made without it"
    deleting = await client.delete("/scopes/read:audit", headers=token.header)
    assert deleting.status_code == 403


async def test_a_token_whose_admin_was_taken_back_is_no_admins(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "admin")
    of_all = await personal_token(client, runtime, user, "admin", confirm_admin=True)
    of_one = await personal_token(client, runtime, user, "read:users")
    assert [await each.status("/users") for each in (of_all, of_one)] == [200, 200]
    async with runtime.work(OPERATOR) as work:
        await revoke(work, user.id, "admin", force=True)
    assert [await each.status("/users") for each in (of_all, of_one)] == [403, 403]


NO_ONES = "01890000-0000-7000-8000-0000000000ff"
OWN_HAND: list[tuple[str, str, Any]] = [
    ("POST", TOKENS, {"name": "x", "scopes": ["read:items"], "expires_at": "2027-06-01T00:00:00Z"}),
    ("GET", TOKENS, None),
    ("DELETE", f"{TOKENS}/{NO_ONES}", None),
    ("POST", "/users/me/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
    ("DELETE", "/users/me/sessions", None),
    ("DELETE", f"/users/me/sessions/{NO_ONES}", None),
    ("DELETE", "/users/me/applications/app", None),
    ("POST", "/users/me/email", {"email": "a@example.com", "current_password": PASSWORD}),
    ("DELETE", "/users/me", {"current_password": PASSWORD}),
    ("GET", "/users/me/export", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OWN_HAND)
async def test_a_token_makes_no_token_and_changes_nothing_of_its_owners_account(
    client: httpx2.AsyncClient, runtime: Runtime, method: str, path: str, body: Any
) -> None:
    """Not even one with admin."""
    root = await make_user(runtime, "admin", username="root")
    token = await personal_token(client, runtime, root, "admin", confirm_admin=True)
    sent: dict[str, Any] = {} if body is None else {"json": body}
    answer = await client.request(method, path, headers=token.header, **sent)
    assert answer.status_code == 403, answer.text
    assert "A personal access token can't do this" in answer.json()["detail"]
    assert await token.works()
    assert (await sign_in(client, root)).token, "the password is as it was"


async def test_a_token_with_admin_does_not_change_its_owner_by_the_administrators_routes(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    root = await make_user(runtime, "admin", username="root")
    token = await personal_token(client, runtime, root, "admin", confirm_admin=True)
    own = f"/users/{root.id}"
    for method, path, body in (
        ("POST", f"{own}/password", {"password": NEW_PASSWORD}),
        ("PATCH", own, {"username": "other"}),
        ("PUT", f"{own}/grants/read:items", {}),
        ("DELETE", f"{own}/sessions", None),
        ("DELETE", f"{own}/sessions/{token.tokens['id']}", None),
    ):
        sent: dict[str, Any] = {} if body is None else {"json": body}
        answer = await client.request(method, path, headers=token.header, **sent)
        assert answer.status_code == 403, (method, path, answer.text)
    assert (await sign_in(client, root)).token


async def test_a_third_partys_client_makes_lists_and_revokes_no_tokens(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    token = await personal_token(client, runtime, alice, "read:items")
    app, browser = await register(runtime), PersonsBrowser.of(runtime)
    async with browser.client:
        await browser.sign_in(alice)
        tokens = await browser.let_in(app)
    answer = await ask_for_token(client, runtime, tokens.header, "read:items")
    assert answer.status_code == 403
    assert (await client.get(TOKENS, headers=tokens.header)).status_code == 403
    path = f"{TOKENS}/{token.tokens['id']}"
    assert (await client.delete(path, headers=tokens.header)).status_code == 403
    assert await token.works()


async def test_a_service_account_makes_no_tokens(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """Its secret can be revoked, and a token would outlast that."""
    service = await make_service(runtime, "invoices", "read:items")
    data = {"grant_type": "client_credentials", **service.credentials}
    issued = (await client.post("/token", data=data)).json()
    header = {"Authorization": f"Bearer {issued['access_token']}"}
    answer = await ask_for_token(client, runtime, header, "read:items")
    assert answer.status_code == 422
    assert "Only people" in answer.json()["detail"]


async def test_the_scopes_of_a_token_are_as_long_as_those_of_a_login_at_most(
    client: httpx2.AsyncClient, runtime: Runtime, own: SignedIn
) -> None:
    for length, too_long in ((MAX_SCOPES_BYTES, False), (MAX_SCOPES_BYTES + 1, True)):
        names = [f"s{number:0>99}" for number in range(40)]
        names.append("x" * (length - len(" ".join(names)) - 1))
        assert len(" ".join(names)) == length
        answer = await ask_for_token(client, runtime, own.header, *names)
        assert answer.status_code >= 400, "they are not held"
        assert ("name fewer" in answer.json()["detail"]) is too_long


async def test_a_person_has_so_many_live_tokens_and_no_more(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    """Of those who ask at once, one counts after the other; those that have ended make room."""
    runtime, client = own_runtime, own_client
    user = await make_user(runtime, "read:items")
    header = await bearer(client, user)

    async def ask() -> httpx2.Response:
        return await ask_for_token(client, runtime, header, "read:items")

    made = [await ask() for _ in range(MOST_TOKENS - 2)]
    at_once = await asyncio.gather(*(ask() for _ in range(5)))
    assert sorted(each.status_code for each in at_once) == [201, 201, 409, 409, 409]
    path = f"{TOKENS}/{made[0].json()['id']}"
    assert (await client.delete(path, headers=header)).status_code == 204
    assert [(await ask()).status_code for _ in range(2)] == [201, 409]
    async with runtime.sessions.begin() as db:
        # Their rows stay until housekeeping.
        await db.execute(text("UPDATE users SET session_epoch = session_epoch + 1"))
    header = await bearer(client, user)
    assert (await ask()).status_code == 201


async def test_revoking_counts_at_once_and_is_repeated_without_harm(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, own: SignedIn
) -> None:
    one = await personal_token(client, runtime, alice, "read:items")
    other = await personal_token(client, runtime, alice, "read:items")
    for _ in range(2):
        answer = await client.delete(f"{TOKENS}/{one.tokens['id']}", headers=own.header)
        assert answer.status_code == 204
    assert [await each.works() for each in (one, other, own)] == [False, True, True]
    async with runtime.sessions() as db:
        ((actor, subject, detail),) = await told(db, "token.revoked")
        assert len(await told(db, "session.ended")) == 2, "the logins that made the two"
        left = (await db.scalars(select(PersonalToken.session_id))).all()
    assert (actor, subject) == (alice.id, alice.id)
    assert detail == {"session": one.tokens["id"], "reason": "revoked by its user"}
    assert [str(each) for each in left] == [other.tokens["id"]], "its secret is forgotten"


async def test_anothers_token_and_ones_own_login_are_no_tokens_to_revoke(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, own: SignedIn
) -> None:
    bob = await make_user(runtime, "read:items")
    token = await personal_token(client, runtime, bob, "read:items")
    login = (await client.get("/users/me/sessions", headers=own.header)).json()["items"][0]["id"]
    for token_id in (token.tokens["id"], login, uuid.uuid4()):
        answer = await client.delete(f"{TOKENS}/{token_id}", headers=own.header)
        assert (answer.status_code, answer.json()["detail"]) == (
            404,
            "There is no such access token.",
        )
    assert await token.works()
    assert await own.works()


async def test_a_token_stands_in_lists_of_sessions_and_is_ended_there(
    client: httpx2.AsyncClient,
    runtime: Runtime,
    alice: Someone,
    own: SignedIn,
    root: dict[str, str],
) -> None:
    tokens = [await personal_token(client, runtime, alice, "read:items") for _ in range(2)]
    seen = (await client.get("/users/me/sessions", headers=own.header)).json()["items"]
    assert sorted(each["token_name"] or "" for each in seen) == ["", "backup", "backup"]
    path = f"/users/{alice.id}/sessions"
    assert len((await client.get(path, headers=root)).json()["items"]) == 3
    answer = await client.delete(f"{path}/{tokens[0].tokens['id']}", headers=root)
    assert answer.status_code == 204
    answer = await client.delete(f"/users/me/sessions/{tokens[1].tokens['id']}", headers=own.header)
    assert answer.status_code == 204
    assert [await each.works() for each in (*tokens, own)] == [False, False, True]


async def change_own_password(client: httpx2.AsyncClient, _: Runtime, alice: Someone) -> None:
    own = await sign_in(client, alice)
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = await client.post("/users/me/password", json=body, headers=own.header)
    assert answer.status_code == 204


async def set_by_an_administrator(client: httpx2.AsyncClient, runtime: Runtime, u: Someone) -> None:
    root = await bearer(client, await make_user(runtime, "admin"))
    body = {"password": NEW_PASSWORD}
    answer = await client.post(f"/users/{u.id}/password", json=body, headers=root)
    assert answer.status_code == 204


async def end_own_sessions(client: httpx2.AsyncClient, _: Runtime, alice: Someone) -> None:
    header = await bearer(client, alice)
    assert (await client.delete("/users/me/sessions", headers=header)).status_code == 204


async def disable(client: httpx2.AsyncClient, runtime: Runtime, user: Someone) -> None:
    root = await bearer(client, await make_user(runtime, "admin"))
    for disabled in (True, False):
        answer = await client.patch(f"/users/{user.id}", json={"disabled": disabled}, headers=root)
        assert answer.status_code == 200


async def end_sessions(client: httpx2.AsyncClient, runtime: Runtime, user: Someone) -> None:
    root = await bearer(client, await make_user(runtime, "admin"))
    answer = await client.delete(f"/users/{user.id}/sessions", headers=root)
    assert answer.status_code == 204


async def erase(_: httpx2.AsyncClient, runtime: Runtime, user: Someone) -> None:
    await execute(runtime, "DELETE FROM users WHERE id = :id", id=user.id)


async def disable_by_sql(_: httpx2.AsyncClient, runtime: Runtime, user: Someone) -> None:
    for value in ("now()", "NULL"):
        statement = f"UPDATE users SET disabled_at = {value} WHERE id = :id"
        await execute(runtime, statement, id=user.id)


async def forget_by_sql(_: httpx2.AsyncClient, runtime: Runtime, user: Someone) -> None:
    await execute(runtime, "DELETE FROM personal_tokens WHERE user_id = :id", id=user.id)


async def forget_all_by_sql(_: httpx2.AsyncClient, runtime: Runtime, user: Someone) -> None:
    await execute(runtime, "TRUNCATE personal_tokens")


@pytest.mark.parametrize(
    ("change", "survives"),
    [
        (change_own_password, True),
        (set_by_an_administrator, False),
        (end_own_sessions, False),
        (end_sessions, False),
        (disable, False),
        (erase, False),
        (disable_by_sql, False),
        (forget_by_sql, False),
        (forget_all_by_sql, False),
    ],
)
async def test_a_token_survives_a_change_of_ones_own_password_and_nothing_else(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, change: Any, *, survives: bool
) -> None:
    """At once, although it was remembered; and a disabled person who is enabled has none."""
    runtime, client = own_runtime, own_client
    alice = await make_user(runtime, "read:items")
    token = await personal_token(client, runtime, alice, "read:items")
    login = await sign_in(client, alice)
    assert [await token.works(), await login.works()] == [True, True]
    await change(client, runtime, alice)
    by_hand = change in (erase, disable_by_sql, forget_by_sql, forget_all_by_sql)
    if by_hand:
        async with asyncio.timeout(20):
            while await token.works():
                await asyncio.sleep(0.005)
    assert await token.works() == survives
    if change not in (forget_by_sql, forget_all_by_sql):
        assert not await login.works()
        async with runtime.sessions() as db:
            kept = select(func.count()).select_from(PersonalToken)
            assert await db.scalar(kept) == (survives or change is disable_by_sql)


async def test_a_token_survives_no_end_that_came_before_the_change_of_password(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    """A new epoch by SQL leaves its secret: the change of password must not bring it back."""
    runtime, client = own_runtime, own_client
    alice = await make_user(runtime, "read:items")
    token = await personal_token(client, runtime, alice, "read:items")
    statement = "UPDATE users SET session_epoch = session_epoch + 1 WHERE id = :id"
    await execute(runtime, statement, id=alice.id)
    await change_own_password(client, runtime, alice)
    assert not await token.works()


async def test_logins_do_not_end_tokens_however_many_there_are(
    own_database_url: str,
) -> None:
    """Tokens don't count towards a person's most sessions."""
    settings = settings_for(own_database_url, max_sessions=2)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        alice = await make_user(runtime, "read:items")
        tokens = [await personal_token(client, runtime, alice, "read:items") for _ in range(3)]
        logins = [await sign_in(client, alice) for _ in range(4)]
        assert [await each.works() for each in logins] == [False, False, True, True]
        assert [await each.works() for each in tokens] == [True] * 3


@pytest.mark.every_token_kind
async def test_a_token_is_introspected_passes_gateways_and_is_revoked_like_any_other(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str]
) -> None:
    user = await make_user(runtime, "read:items", username="Bob")
    token = await personal_token(client, runtime, user, "read:items")
    data = {"token": token.token}
    said = (await client.post("/introspect", data=data, headers=root)).json()
    assert said["active"] is True
    assert (said["sub"], said["username"], said["scope"]) == (str(user.id), "Bob", "read:items")
    assert (said["token_type"], said["client_id"]) == ("bearer", "scopegate")
    assert said["sid"] == said["jti"] == token.tokens["id"]
    assert (said["iss"], said["aud"]) == (runtime.issuer.jwt.issuer, runtime.issuer.jwt.audience)
    answer = await client.get("/forward-auth?scope=read:items", headers=token.header)
    assert (answer.status_code, answer.headers["x-auth-request-user"]) == (200, str(user.id))
    answer = await client.get("/forward-auth?scope=read:users", headers=token.header)
    assert answer.status_code == 403
    assert (await client.post("/revoke", data=data)).status_code == 200
    assert not await token.works()
    said = (await client.post("/introspect", data=data, headers=root)).json()
    assert said == {"active": False}
    assert (await client.get("/forward-auth", headers=token.header)).status_code == 401
    async with runtime.sessions() as db:
        ((actor, _, detail),) = await told(db, "token.revoked")
    assert (actor, detail["reason"]) == (user.id, "token revoked")


async def test_an_introspected_token_ends_with_the_first_grant_behind_it(
    client: httpx2.AsyncClient, runtime: Runtime, root: dict[str, str]
) -> None:
    ends = runtime.now() + timedelta(days=2)
    user = await make_user(runtime, "read:items", expires_at=ends)
    token = await personal_token(client, runtime, user, "read:items")
    said = await client.post("/introspect", data={"token": token.token}, headers=root)
    assert said.json()["exp"] == int(ends.timestamp())


async def test_no_refresh_token_is_made_of_a_token_and_a_forged_one_is_refused(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    """As if the service's secret and its database had leaked: this session is not refreshed."""
    token = await personal_token(client, runtime, alice, "read:items")
    async with runtime.sessions() as db:
        session = await db.get_one(Session, uuid.UUID(token.tokens["id"]))
        forged = runtime.issuer.refresh_tokens.write(session)
    for value in (token.token, forged):
        data = {"grant_type": "refresh_token", "refresh_token": value}
        answer = await client.post("/token", data=data)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert await token.works()


async def test_a_remembered_token_asks_the_database_nothing_and_a_wrong_checksum_neither(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    user = await make_user(own_runtime, "read:items")
    token = await personal_token(own_client, own_runtime, user, "read:items")
    assert await token.works()
    last = token.token[-1]
    wrong = [
        token.token[:-1] + ("0" if last != "0" else "1"),
        token.token[:-1],
        token.token + "0",
        token.token.swapcase(),
        "sgp_",
        "sgp_" + "é" * 33,
        "sgp_" + "٣" * 33,
    ]
    async with work_of(own_runtime) as work:
        for _ in range(20):
            assert await token.works()
        for each in wrong:
            header = (b"Authorization", f"Bearer {each}".encode())
            answer = await own_client.get("/users/me", headers=[header])
            assert answer.status_code == 401
            await own_client.post("/revoke", data={"token": each})
    assert (work.statements, work.connections) == (0, 0)


async def test_a_grant_that_is_revoked_while_a_token_is_made_counts_for_it_no_more(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    runtime, client = own_runtime, own_client
    root = await bearer(client, await make_user(runtime, "admin"))
    for _ in range(10):
        user = await make_user(runtime, "read:users")
        own = await sign_in(client, user)
        making, revoking = await asyncio.gather(
            ask_for_token(client, runtime, own.header, "read:users"),
            client.delete(f"/users/{user.id}/grants/read:users", headers=root),
        )
        assert revoking.status_code == 204
        assert making.status_code in (201, 403), making.text
        if making.status_code == 201:
            token = {"Authorization": f"Bearer {making.json()['token']}"}
            assert await status(client, token, "/users") == 403
            assert await status(client, token) == 200


@pytest.mark.parametrize(
    ("change", "survives"),
    [
        ("POST /users/me/password", True),
        ("DELETE /users/me/sessions", False),
        ("DELETE /users/{id}/sessions", False),
        ("POST /users/{id}/password", False),
    ],
)
async def test_a_token_that_is_made_in_the_instant_of_an_end_ends_or_comes_after_it(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, change: str, *, survives: bool
) -> None:
    """With a change of one's own password it survives, made before or after."""
    runtime, client = own_runtime, own_client
    root = await bearer(client, await make_user(runtime, "admin"))
    method, path = change.split()
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD, "password": NEW_PASSWORD}
    for _ in range(5):
        user = await make_user(runtime, "read:items")
        own = await sign_in(client, user)
        header = own.header if "/me" in path else root
        sent: dict[str, Any] = {"json": body} if method == "POST" else {}
        ending, *making = await asyncio.gather(
            client.request(method, path.format(id=user.id), headers=header, **sent),
            *(ask_for_token(client, runtime, own.header, "read:items") for _ in range(4)),
        )
        assert ending.status_code == 204
        for each in making:
            if survives:
                assert each.status_code == 201, each.text
                token = {"Authorization": f"Bearer {each.json()['token']}"}
                assert await status(client, token) == 200
                continue
            assert each.status_code in (201, 401), each.text
            if each.status_code == 201:
                token = {"Authorization": f"Bearer {each.json()['token']}"}
                assert await status(client, token) == 401
