"""Administering users: found, made, changed, and their passwords, secrets and sessions."""

import json
import uuid
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, insert
from uuid_utils.compat import uuid7

from app.identity.models import User
from app.runtime import Runtime
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user

Headers = dict[str, str]

NEW_PASSWORD = "wrong donkey battery staple"


async def make_service(client: httpx2.AsyncClient, by: Headers, name: str) -> dict[str, Any]:
    answer = await client.post("/users", json={"username": name, "kind": "service"}, headers=by)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


async def token_status(client: httpx2.AsyncClient, secret: dict[str, Any]) -> int:
    form = {
        "grant_type": "client_credentials",
        "client_id": secret["client_id"],
        "client_secret": secret["client_secret"],
    }
    return (await client.post("/token", data=form)).status_code


async def test_a_person_is_made_and_signs_in(client: httpx2.AsyncClient, root: Headers) -> None:
    answer = await client.post(
        "/users", json={"username": "Zoë", "password": PASSWORD}, headers=root
    )
    assert answer.status_code == 201
    made = answer.json()
    assert set(made) == {"id", "username", "kind", "disabled", "email_verified", "created_at"}
    assert (made["username"], made["kind"], made["disabled"]) == ("Zoë", "person", False)
    shown = (await client.get(f"/users/{made['id']}", headers=root)).json()
    assert shown == made | {"email": None, "last_sign_in_at": None}
    signed_in = await login(client, Someone(made["id"], "zoë"))
    assert (signed_in.status_code, signed_in.json()["scope"]) == (200, "")


async def test_a_name_that_looks_like_another_is_a_conflict_and_signs_nobody_in(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    body = {"username": "  amelia ", "password": PASSWORD}
    made = (await client.post("/users", json=body, headers=root)).json()
    assert made["username"] == "amelia"
    assert (await login(client, Someone(made["id"], " amelia "))).status_code == 200
    other = (await client.post("/users", json=body | {"username": "ann"}, headers=root)).json()
    for lookalike in ("\u0430melia", "amel\u0456a", "\u0410MELIA", "amel\u0131a"):
        answer = await client.post("/users", json=body | {"username": lookalike}, headers=root)
        assert answer.status_code == 409, lookalike
        change = {"username": lookalike}
        answer = await client.patch(f"/users/{other['id']}", json=change, headers=root)
        assert answer.status_code == 409, lookalike
        answer = await login(client, Someone(made["id"], lookalike))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    for name in ("arnelia", "ameiia", "ameIla"):
        answer = await client.post("/users", json=body | {"username": name}, headers=root)
        assert answer.status_code == 201, answer.text


async def test_a_service_gets_a_secret_shown_once_and_another_to_change_over_to(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    made = await make_service(client, root, "worker")
    assert made["client_id"] == made["username"] == "worker"
    shown = await client.get(f"/users/{made['id']}", headers=root)
    assert made["client_secret"] not in shown.text
    path = f"/users/{made['id']}/secrets"
    second = await client.post(path, headers=root)
    assert second.status_code == 201
    assert second.headers["cache-control"] == "no-store"
    assert [await token_status(client, each) for each in (made, second.json())] == [200, 200]
    assert (await client.post(path, headers=root)).status_code == 409, "two live at a time"
    old = f"{path}/{made['secret_id']}"
    assert (await client.delete(old, headers=root)).status_code == 204
    assert [await token_status(client, each) for each in (made, second.json())] == [401, 200]
    assert (await client.delete(old, headers=root)).status_code == 404


async def test_a_secret_is_revoked_under_its_own_account_alone(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    one, other = [await make_service(client, root, name) for name in ("one", "other")]
    path = f"/users/{other['id']}/secrets/{one['secret_id']}"
    assert (await client.delete(path, headers=root)).status_code == 404
    assert await token_status(client, one) == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"username": "ALICE", "password": PASSWORD}, 409),
        ({"username": "alice", "kind": "service"}, 409),
        ({"username": "two words", "password": PASSWORD}, 422),
        ({"username": "nul\0", "password": PASSWORD}, 422),
        ({"username": "\ud800", "password": PASSWORD}, 422),
        ({"username": "", "password": PASSWORD}, 422),
        ({"username": "bob", "password": "short"}, 422),
        ({"username": "bob", "password": "x" * 100_000}, 422),
        ({"username": "bob", "kind": "service", "password": PASSWORD}, 422),
        ({"username": "bob", "kind": "robot"}, 422),
        *(
            ({"username": name, "kind": "service"}, 422)
            for name in ("scopegate", "Scopegate", "a:b", "dienst-ü", "two words")
        ),
    ],
)
async def test_users_that_cant_be_are_refused(
    client: httpx2.AsyncClient,
    root: Headers,
    alice: Someone,
    body: dict[str, str],
    status: int,
) -> None:
    # Not json=: the client would refuse to send a lone surrogate.
    headers = {**root, "Content-Type": "application/json"}
    answer = await client.post("/users", content=json.dumps(body), headers=headers)
    assert answer.status_code == status, answer.text
    assert PASSWORD not in answer.text
    listed = (await client.get("/users", headers=root)).json()["items"]
    assert {each["username"] for each in listed} == {"root", "Alice"}


async def test_users_are_found_by_a_part_of_their_name_in_any_spelling(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers
) -> None:
    for name in ("Straße_1", "strasse%2", "Elsewhere"):
        await make_user(runtime, username=name)

    async def found(q: str) -> list[str]:
        answer = await client.get("/users", params={"q": q}, headers=root)
        assert answer.status_code == 200, answer.text
        return [each["username"] for each in answer.json()["items"]]

    assert await found("TRASSE") == ["strasse%2", "Straße_1"]
    assert await found("_") == ["Straße_1"], "no wildcard"
    assert await found("%") == ["strasse%2"], "no wildcard"
    assert await found("nobody") == []
    assert len(await found("")) == 4
    assert (await client.get("/users?q=%00", headers=root)).status_code == 422


@pytest.mark.long
async def test_pages_show_every_user_who_stayed_once(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """While between all pages, and so before and behind the reader, some come and some go."""
    root = await bearer(own_client, await make_user(own_runtime, "admin"))

    def rows(number: int) -> list[dict[str, object]]:
        names = [f"user-{uuid.uuid4().hex}" for _ in range(number)]
        return [{"id": uuid7(), "username": name, "username_key": name} for name in names]

    async with own_runtime.work(OPERATOR) as work:
        made = rows(10_000)
        await work.db.execute(insert(User), made)
    ids = [str(row["id"]) for row in made]
    # By their random part: from everywhere, in no order.
    going = sorted(ids, key=lambda each: each[-12:])[:180]
    staying = set(ids) - set(going)
    seen: list[str] = []
    params: dict[str, str | int] = {"limit": 100, "q": "user-"}
    while True:
        page = (await own_client.get("/users", params=params, headers=root)).json()
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        params["after"] = page["next"]
        async with own_runtime.work(OPERATOR) as work:
            await work.db.execute(insert(User), rows(3))
            leaving = [uuid.UUID(going.pop()) for _ in range(2) if going]
            await work.db.execute(delete(User).where(User.id.in_(leaving)))
    assert not going, "all of them have gone"
    assert len(seen) == len(set(seen))
    newest_first = [each for each in reversed(ids) if each in staying]
    assert [each for each in seen if each in staying] == newest_first


async def test_a_user_is_renamed_disabled_and_enabled(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    token, path = await bearer(client, alice), f"/users/{alice.id}"

    async def change(**changes: object) -> dict[str, Any]:
        answer = await client.patch(path, json=changes, headers=root)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    assert (await change(username="Alicia"))["username"] == "Alicia"
    assert (await client.get("/users/me", headers=token)).json()["username"] == "Alicia"
    assert (await login(client, alice)).status_code == 400
    alicia = Someone(alice.id, "alicia")
    assert (await login(client, alicia)).status_code == 200
    for _ in range(2):
        assert (await change(disabled=True))["disabled"] is True
    assert (await client.get("/users/me", headers=token)).status_code == 401
    assert (await login(client, alicia)).status_code == 400
    for _ in range(2):
        assert (await change(disabled=False))["disabled"] is False
    assert (await login(client, alicia)).status_code == 200
    assert (await client.get("/users/me", headers=token)).status_code == 401, "for good"
    assert await change() == await change(username=None, disabled=None)


async def test_names_that_cant_be_and_half_a_change_are_refused(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    path = f"/users/{alice.id}"
    for name, status in {"ROOT": 409, "two words": 422, "": 422}.items():
        change = {"username": name, "disabled": True}
        assert (await client.patch(path, json=change, headers=root)).status_code == status
    shown = (await client.get(path, headers=root)).json()
    assert (shown["username"], shown["disabled"]) == ("Alice", False)
    worker = await make_service(client, root, "worker")
    path = f"/users/{worker['id']}"
    renamed = await client.patch(path, json={"username": "other"}, headers=root)
    assert renamed.status_code == 422, "its name is its client_id"
    same = {"username": "worker", "disabled": True}
    assert (await client.patch(path, json=same, headers=root)).status_code == 200


async def test_a_password_is_set_and_all_sessions_end(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    token, path = await bearer(client, alice), f"/users/{alice.id}/password"
    for refused in ("short", "password123", "nul\0nul\0nul", "x" * 100_000):
        answer = await client.post(path, json={"password": refused}, headers=root)
        assert answer.status_code == 422
        assert refused not in answer.text
    assert (await client.get("/users/me", headers=token)).status_code == 200
    answer = await client.post(path, json={"password": NEW_PASSWORD}, headers=root)
    assert answer.status_code == 204
    assert (await client.get("/users/me", headers=token)).status_code == 401
    assert (await login(client, alice)).status_code == 400
    assert (await login(client, alice, password=NEW_PASSWORD)).status_code == 200


async def test_a_service_has_no_password_and_a_person_no_secret(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    worker = await make_service(client, root, "worker")
    answer = await client.post(
        f"/users/{worker['id']}/password", json={"password": NEW_PASSWORD}, headers=root
    )
    assert answer.status_code == 422
    assert (await client.post(f"/users/{alice.id}/secrets", headers=root)).status_code == 422


async def test_sessions_of_a_user_are_listed_by_page_and_all_ended(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    tokens = [await bearer(client, alice) for _ in range(3)]
    path = f"/users/{alice.id}/sessions"
    first = (await client.get(f"{path}?limit=2", headers=root)).json()
    rest = (await client.get(f"{path}?after={first['next']}", headers=root)).json()
    assert rest["next"] is None
    assert len({each["id"] for each in first["items"] + rest["items"]}) == 3
    for _ in range(2):
        assert (await client.delete(path, headers=root)).status_code == 204
    assert (await client.get(path, headers=root)).json() == {"items": [], "next": None}
    for token in tokens:
        assert (await client.get("/users/me", headers=token)).status_code == 401
    assert (await client.get("/users/me", headers=root)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"disabled": True}),
        ("POST", "/password", {"password": NEW_PASSWORD}),
        ("POST", "/secrets", None),
        ("DELETE", "/secrets/01890000-0000-7000-8000-000000000001", None),
        ("GET", "/secrets", None),
        ("GET", "/sessions", None),
        ("DELETE", "/sessions/01890000-0000-7000-8000-000000000001", None),
        ("DELETE", "/sessions", None),
        ("GET", "/grants", None),
        ("PUT", "/grants/read:items", None),
        ("DELETE", "/grants/read:items", None),
    ],
)
async def test_of_a_user_who_is_not_there_it_is_said_so(
    client: httpx2.AsyncClient, root: Headers, method: str, path: str, body: object
) -> None:
    answer = await client.request(method, f"/users/{uuid.uuid4()}{path}", json=body, headers=root)
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such user.")
    answer = await client.request(method, f"/users/nobody{path}", json=body, headers=root)
    assert answer.status_code == 422
