"""Secrets that are listed, and one session of somebody that is ended."""

import uuid
from typing import Any

import httpx2
import pytest

from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import Someone, bearer, make_user

Headers = dict[str, str]


async def get(client: httpx2.AsyncClient, by: Headers, path: str) -> Any:
    answer = await client.get(path, headers=by)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_live_secrets_are_listed_without_what_they_are(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    body = {"username": "worker", "kind": "service"}
    made = (await client.post("/users", json=body, headers=root)).json()
    path = f"/users/{made['id']}/secrets"
    second = (await client.post(path, headers=root)).json()
    listed = await client.get(path, headers=root)
    for secret in (made, second):
        assert secret["client_secret"] not in listed.text
    rows = listed.json()["items"]
    assert [each["secret_id"] for each in rows] == [made["secret_id"], second["secret_id"]]
    assert all(set(each) == {"secret_id", "created_at"} for each in rows)
    old = f"{path}/{made['secret_id']}"
    assert (await client.delete(old, headers=root)).status_code == 204
    assert await get(client, root, path) == {"items": rows[1:], "next": None}
    last = f"{path}/{second['secret_id']}"
    assert (await client.delete(last, headers=root)).status_code == 204
    assert await get(client, root, path) == {"items": [], "next": None}


async def test_a_person_has_no_secrets_and_nobody_has_none_to_list(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    assert (await get(client, root, f"/users/{alice.id}/secrets"))["items"] == []
    assert (await client.get(f"/users/{uuid.uuid4()}/secrets", headers=root)).status_code == 404


async def test_one_session_of_somebody_ends_and_the_others_go_on(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    tokens = [await bearer(client, alice) for _ in range(3)]
    path = f"/users/{alice.id}/sessions"
    (ended,) = [
        each["id"]
        for each in (await get(client, tokens[1], "/users/me/sessions"))["items"]
        if each["current"]
    ]
    for _ in range(2):
        assert (await client.delete(f"{path}/{ended}", headers=root)).status_code == 204
    statuses = [(await client.get("/users/me", headers=token)).status_code for token in tokens]
    assert statuses == [200, 401, 200]
    assert ended not in {each["id"] for each in (await get(client, root, path))["items"]}
    told = await get(client, root, f"/audit?user={alice.id}&action=session.ended")
    (entry,) = told["items"]
    assert entry["detail"] == {"session": ended, "reason": "ended by an admin"}
    assert told["names"][entry["actor"]] == "root"


async def test_a_session_ends_under_its_own_user_alone(
    client: httpx2.AsyncClient, root: Headers, runtime: Runtime, alice: Someone
) -> None:
    bob = await make_user(runtime, "read:items", username="bob")
    token = await bearer(client, alice)
    (session,) = (await get(client, root, f"/users/{alice.id}/sessions"))["items"]
    for user_id in (bob.id, uuid.uuid4()):
        path = f"/users/{user_id}/sessions/{session['id']}"
        assert (await client.delete(path, headers=root)).status_code == 404
    unknown = f"/users/{alice.id}/sessions/{uuid.uuid4()}"
    assert (await client.delete(unknown, headers=root)).status_code == 404
    assert (await client.get("/users/me", headers=token)).status_code == 200


@pytest.mark.parametrize(
    ("held", "status"),
    [(("write:users",), 403), (("write:users", "read:items"), 204), (("read:users",), 403)],
)
async def test_whoever_holds_less_ends_no_session_of_those_who_hold_more(
    client: httpx2.AsyncClient,
    root: Headers,
    runtime: Runtime,
    alice: Someone,
    held: tuple[str, ...],
    status: int,
) -> None:
    clerk = await bearer(client, await make_user(runtime, *held))
    token = await bearer(client, alice)
    (session,) = (await get(client, root, f"/users/{alice.id}/sessions"))["items"]
    answer = await client.delete(f"/users/{alice.id}/sessions/{session['id']}", headers=clerk)
    assert answer.status_code == status
    after = (await client.get("/users/me", headers=token)).status_code
    assert after == (401 if status == 204 else 200)


async def test_ones_own_sessions_say_which_is_this_one(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    tokens = [await bearer(client, alice) for _ in range(3)]
    current = []
    for token in tokens:
        rows = (await get(client, token, "/users/me/sessions"))["items"]
        assert len(rows) == 3
        current += [each["id"] for each in rows if each["current"]]
    assert len(set(current)) == 3


async def test_the_audit_log_is_narrowed_to_a_span_of_time(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    for name in ("a:1", "a:2", "a:3", "a:4"):
        answer = await client.put(f"/scopes/{name}", json={"description": "x"}, headers=root)
        assert answer.status_code == 200

    async def scopes(**span: str) -> list[str]:
        query = {"action": "scope.registered", **span}
        answer = await client.get("/audit", params=query, headers=root)
        assert answer.status_code == 200, answer.text
        return [each["detail"]["scope"] for each in answer.json()["items"]]

    entries = (await get(client, root, "/audit?action=scope.registered"))["items"]
    at = [each["at"] for each in entries][::-1]
    assert await scopes() == ["a:4", "a:3", "a:2", "a:1"]
    # In one transaction of the test's, so at one time.
    assert await scopes(since=at[0]) == ["a:4", "a:3", "a:2", "a:1"]
    assert await scopes(until=at[0]) == []
    assert await scopes(since="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z") == []
    assert await scopes(until="2100-01-01T02:00:00+02:00") == ["a:4", "a:3", "a:2", "a:1"]


@pytest.mark.parametrize("span", ["until=yesterday", "until=1", "until=2026-01-01", "until="])
async def test_a_span_that_cant_be_is_refused(
    client: httpx2.AsyncClient, root: Headers, span: str
) -> None:
    assert (await client.get(f"/audit?{span}", headers=root)).status_code == 422


async def test_the_audit_log_names_those_who_are_in_it(
    client: httpx2.AsyncClient, root: Headers, runtime: Runtime, alice: Someone, clock: MovableClock
) -> None:
    """To a reader of the log who may see no user otherwise, and by the name of now."""
    auditor = await bearer(client, await make_user(runtime, "read:audit", username="eve"))
    change = {"username": "Alicia"}
    assert (await client.patch(f"/users/{alice.id}", json=change, headers=root)).status_code == 200
    page = await get(client, auditor, f"/audit?user={alice.id}")
    assert page["names"][str(alice.id)] == "Alicia"
    assert set(page["names"]) == {
        each[role] for each in page["items"] for role in ("actor", "subject") if each[role]
    }
    unknown = await get(client, auditor, "/audit?action=login.throttled")
    assert unknown["names"] == {}
