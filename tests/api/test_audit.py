"""The audit log: all that was done is told, and nothing that must not be."""

import base64
from typing import Any, get_args

import httpx2
import pytest
from sqlalchemy import select, text

from app.audit.actions import Action
from app.identity.models import ClientSecret, Session, User
from app.main import create_app
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import PASSWORD, Someone, bearer, make_user
from tests.support.keys import rotate

Headers = dict[str, str]

NEW_PASSWORD = "wrong donkey battery staple"


async def told(client: httpx2.AsyncClient, root: Headers, **query: object) -> list[dict[str, Any]]:
    answer = await client.get("/audit", params={"limit": 100, **query}, headers=root)  # type: ignore[dict-item]
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def newest(client: httpx2.AsyncClient, root: Headers, **query: object) -> dict[str, Any]:
    return (await told(client, root, **query))[0]


async def id_of(client: httpx2.AsyncClient, token: Headers) -> str:
    found: str = (await client.get("/users/me", headers=token)).json()["id"]
    return found


async def test_an_entry_tells_who_whom_what_when_and_from_where(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    terms = {"expires_at": "2100-01-01T00:00:00Z", "reason": "On call"}
    path = f"/users/{alice.id}/grants/read:audit"
    answer = await client.put(path, json=terms, headers=root)
    entry = await newest(client, root)
    assert entry.pop("at")
    assert entry.pop("id")
    assert entry == {
        "action": "grant.made",
        "actor": await id_of(client, root),
        "subject": str(alice.id),
        "detail": {"scope": "read:audit", "expires_at": terms["expires_at"]},
        "address": "127.0.0.1",
        "request_id": answer.headers["x-request-id"],
    }
    before = await told(client, root)
    for again in (
        await client.put(path, json=terms, headers=root),
        await client.delete(f"/users/{alice.id}/grants/introspect", headers=root),
    ):
        assert again.status_code == 204
    assert await told(client, root) == before, "what changes nothing is not told"


async def test_every_answer_bears_a_request_id_of_its_own(client: httpx2.AsyncClient) -> None:
    paths = ("/health/live", "/users/me", "/nowhere", "/docs")
    answers = [await client.get(path) for path in paths]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


@pytest.mark.every_token_kind
async def test_all_that_is_done_is_told_and_no_secret_is_in_it(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers, clock: MovableClock
) -> None:
    canaries = {PASSWORD, NEW_PASSWORD, root["Authorization"].removeprefix("Bearer ")}

    async def call(method: str, path: str, expected: int, **sent: Any) -> dict[str, Any]:
        answer = await client.request(method, path, **{"headers": root, **sent})
        assert answer.status_code == expected, answer.text
        body: dict[str, Any] = answer.json() if answer.content else {}
        secrets = {"access_token", "refresh_token", "client_secret"} & body.keys()
        canaries.update(body[name] for name in secrets)
        return body

    async def sign_in(name: str, password: str) -> dict[str, Any]:
        form = {"username": name, "password": password}
        return await call("POST", "/token", 200, data=form)

    def refresh(token: str) -> dict[str, str]:
        return {"grant_type": "refresh_token", "refresh_token": token}

    bob = await call("POST", "/users", 201, json={"username": "bob", "password": PASSWORD})
    path = f"/users/{bob['id']}"
    await call("PUT", f"{path}/grants/read:items", 204)
    pair = await sign_in("bob", PASSWORD)
    await call("POST", "/token", 200, data=refresh(pair["refresh_token"]))
    app = create_app(runtime.settings)
    app.state.runtime = runtime
    elsewhere = httpx2.ASGITransport(app, client=("198.51.100.7", 50000))
    async with httpx2.AsyncClient(transport=elsewhere, base_url="http://a.test") as travelling:
        again = await travelling.post("/token", data=refresh(pair["refresh_token"]))
        assert again.status_code == 200
    clock.move(seconds=61)
    await call("POST", "/token", 400, data=refresh(pair["refresh_token"]))
    mine = await sign_in("bob", PASSWORD)
    me = {"Authorization": f"Bearer {mine['access_token']}"}
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    await call("POST", "/users/me/password", 204, json=change, headers=me)
    await call("POST", "/users/me/password", 403, json=change, headers=me)
    await call("POST", "/revoke", 200, data={"token": mine["access_token"]})
    # People type their password where the name belongs, and secrets where ids do.
    for form in (
        {"username": PASSWORD, "password": "bob"},
        {"username": "bob", "password": PASSWORD},
        {"grant_type": "client_credentials", "client_id": PASSWORD, "client_secret": "x"},
    ):
        answer = await client.post("/token", data=form)
        assert answer.status_code in {400, 401}
    for status in [401] * 8 + [429]:
        answer = await client.post("/token", data=form)
        assert answer.status_code == status
    await call("POST", f"{path}/password", 204, json={"password": PASSWORD})
    await call("PATCH", path, 200, json={"username": "robert", "disabled": True})
    await call("PATCH", path, 200, json={"disabled": False})
    await call("DELETE", f"{path}/grants/read:items", 204)
    made = await call("POST", "/users", 201, json={"username": "worker", "kind": "service"})
    secret = await call("POST", f"/users/{made['id']}/secrets", 201)
    await call("DELETE", f"/users/{made['id']}/secrets/{made['secret_id']}", 204)
    form = {"client_id": "worker", "client_secret": secret["client_secret"]}
    await call("POST", "/token", 200, data={"grant_type": "client_credentials", **form})
    await call("PUT", "/scopes/ship:orders", 200, json={"description": "Ship"})
    await call("DELETE", "/scopes/ship:orders", 204)
    await rotate(runtime)
    await call("GET", "/users/me/export", 200)
    await call("DELETE", path, 204)

    entries = await told(client, root)
    details = [each["detail"] for each in entries]
    for each in details:
        assert "username" not in each
        assert not {"bob", "robert"} & set(map(str, each.values()))
    # A recovery is a command's: tests/db/test_lost_timeline.py. Names are removed by a migration:
    # tests/db/test_nameless_audit_log.py.
    done = {each["action"] for each in entries}
    # What clients and consents are told: tests/pages/test_code_flow.py, tests/api/test_clients.py.
    # What the life of an account is told: tests/api/test_sign_up.py and its neighbours.
    others = ("client", "con", "code", "account.s", "email", "invitation", "password.reset")
    told_elsewhere = {each for each in get_args(Action) if each.startswith((*others, "token"))}
    never_here = {"database.recovered", "audit.names_removed"}
    assert done == set(get_args(Action)) - never_here - told_elsewhere
    subjects = {each["action"]: each["subject"] for each in entries}
    assert subjects["session.reuse_detected"] == subjects["grant.revoked"] == bob["id"]
    assert subjects["secret.revoked"] == made["id"]

    async with runtime.sessions() as db:
        canaries |= {each for each in await db.scalars(select(User.password_hash)) if each}
        for column in (ClientSecret.digest, Session.refresh_key):
            for raw in await db.scalars(select(column)):
                canaries |= {raw.hex(), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
        rows = (await db.scalars(text("SELECT audit_entries::text FROM audit_entries"))).all()
    assert len(rows) >= len(entries)
    assert len(canaries) > 15
    for canary in canaries:
        assert not [row for row in rows if canary in row]


@pytest.mark.parametrize(
    ("form", "reason", "known"),
    [
        ({"username": "nobody", "password": PASSWORD}, "unknown user", False),
        ({"username": "alice", "password": "wrong"}, "wrong password", True),
        ({"username": "asleep", "password": PASSWORD}, "disabled", True),
        ({"username": "worker", "password": PASSWORD}, "service account", True),
        (
            {"grant_type": "client_credentials", "client_id": "worker", "client_secret": "x"},
            "wrong client secret",
            True,
        ),
        (
            {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "x"},
            "unknown client",
            False,
        ),
        (
            {
                "username": "alice",
                "password": PASSWORD,
                "client_id": "worker",
                "client_secret": "x",
            },
            "wrong client secret",
            True,
        ),
    ],
)
async def test_a_login_that_fails_is_told_although_the_request_fails(
    client: httpx2.AsyncClient,
    runtime: Runtime,
    root: Headers,
    alice: Someone,
    form: dict[str, str],
    reason: str,
    known: bool,
) -> None:
    asleep = await make_user(runtime, username="asleep")
    await client.patch(f"/users/{asleep.id}", json={"disabled": True}, headers=root)
    worker = await client.post(
        "/users", json={"username": "worker", "kind": "service"}, headers=root
    )
    ids = {"alice": str(alice.id), "asleep": str(asleep.id), "worker": worker.json()["id"]}
    answer = await client.post("/token", data=form)
    assert answer.status_code in {400, 401}
    entry = await newest(client, root)
    assert (entry["action"], entry["detail"]) == ("login.failed", {"reason": reason})
    assert entry["subject"] == (ids[form.get("client_id") or form["username"]] if known else None)
    assert (entry["actor"], entry["address"]) == (None, "127.0.0.1")
    assert entry["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/introspect", "/revoke"])
async def test_a_wrong_client_secret_is_told_wherever_it_is_shown(
    client: httpx2.AsyncClient, root: Headers, path: str
) -> None:
    form = {"token": "x", "client_id": "root", "client_secret": "x"}
    assert (await client.post(path, data=form)).status_code == 401
    entry = await newest(client, root)
    assert entry["action"] == "login.failed"
    assert entry["subject"] == await id_of(client, root)


async def test_what_is_undone_is_not_told(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    before = await told(client, root)
    me = await id_of(client, root)
    changes: list[tuple[str, str, Any, int]] = [
        ("PATCH", f"/users/{me}", {"username": "other", "disabled": True}, 409),
        ("PATCH", f"/users/{alice.id}", {"username": "ROOT"}, 409),
        ("POST", "/users", {"username": "alice", "kind": "service"}, 409),
        ("PUT", f"/users/{alice.id}/grants/no:such", None, 404),
        ("DELETE", f"/users/{me}/grants/admin", None, 409),
    ]
    for method, path, body, status in changes:
        answer = await client.request(method, path, json=body, headers=root)
        assert answer.status_code == status, answer.text
    assert await told(client, root) == before


async def test_entries_are_found_by_user_action_and_time_and_paged_newest_first(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    await bearer(client, alice)
    await client.patch(f"/users/{alice.id}", json={"disabled": True}, headers=root)
    entries = await told(client, root)
    ids = [each["id"] for each in entries]
    assert ids == sorted(ids, reverse=True)

    mine = await told(client, root, user=alice.id)
    assert mine == [each for each in entries if str(alice.id) in {each["actor"], each["subject"]}]
    assert {each["action"] for each in mine} > {"user.created", "login.succeeded", "user.disabled"}
    by_root = await told(client, root, user=await id_of(client, root))
    assert "user.disabled" in {each["action"] for each in by_root}
    (created,) = await told(client, root, user=alice.id, action="user.created")
    assert created["actor"] is None, "by a command"
    assert len(await told(client, root, since=created["at"])) <= len(entries)
    assert await told(client, root, since="2100-01-01T00:00:00+01:00") == []

    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await client.get("/audit", params=query, headers=root)).json()
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert seen == ids


@pytest.mark.parametrize(
    "query",
    [
        "user=alice",
        "action=user.praised",
        "since=yesterday",
        "since=2001-01-01T00:00:00",
        "since=1700000000",
        "since=0.5",
        "since=0001-01-01T00:00:00%2B12:00",
        "after=x",
        "limit=101",
    ],
)
async def test_bad_queries_are_422(client: httpx2.AsyncClient, root: Headers, query: str) -> None:
    assert (await client.get(f"/audit?{query}", headers=root)).status_code == 422
