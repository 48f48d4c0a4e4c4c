"""Granting by API: with an end and a reason, again, and taken back."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import Someone, bearer

Headers = dict[str, str]


def path(user: Someone, scope: str = "read:items") -> str:
    return f"/users/{user.id}/grants/{scope}"


async def granted(client: httpx2.AsyncClient, by: Headers, user: Someone) -> dict[str, Any]:
    answer = await client.get(f"/users/{user.id}/grants", headers=by)
    return {each["scope"]: each for each in answer.json()["items"]}


@pytest.mark.every_token_kind
async def test_a_grant_and_its_end_bite_at_once_on_a_token_already_out(
    client: httpx2.AsyncClient, root: Headers, alice: Someone, clock: MovableClock
) -> None:
    token = await bearer(client, alice)

    async def status() -> int:
        return (await client.get("/items", headers=token)).status_code

    async def end_in(**time: float) -> None:
        terms = {"expires_at": (clock() + timedelta(**time)).isoformat()}
        assert (await client.put(path(alice), json=terms, headers=root)).status_code == 204

    await end_in(hours=1)
    await end_in(seconds=10)
    assert await status() == 200
    clock.move(seconds=9)
    assert await status() == 200
    clock.move(seconds=1)
    assert await status() == 403
    await end_in(seconds=60)
    assert await status() == 200, "extended"
    assert (await client.put(path(alice), headers=root)).status_code == 204
    clock.move(seconds=61)
    assert await status() == 200, "the end is gone"
    assert (await client.delete(path(alice), headers=root)).status_code == 204
    assert await status() == 403


async def test_me_tells_when_each_granted_scope_ends(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    end = datetime(2100, 1, 1, tzinfo=UTC)
    terms = {"expires_at": "2100-01-01T02:00:00+02:00", "reason": "The audit of Q4"}
    await client.put(path(alice, "read:audit"), json=terms, headers=root)
    me = (await client.get("/users/me", headers=await bearer(client, alice))).json()
    assert me["granted"] == ["read:audit", "read:items"]
    assert datetime.fromisoformat(me["granted_until"].pop("read:audit")) == end
    assert me["granted_until"] == {}


async def test_grants_are_listed_with_who_and_why_and_no_longer_than_they_count(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers, alice: Someone, clock: MovableClock
) -> None:
    end = clock() + timedelta(hours=1)
    terms = {"expires_at": end.isoformat(), "reason": "On call"}
    for _ in range(2):
        answer = await client.put(path(alice, "write:items"), json=terms, headers=root)
        assert answer.status_code == 204
    me = (await client.get("/users/me", headers=root)).json()
    found = (await granted(client, root, alice))["write:items"]
    assert (found["reason"], found["granted_by"]) == ("On call", me["id"])
    assert datetime.fromisoformat(found["expires_at"]) == end
    first = (await client.get(f"/users/{alice.id}/grants?limit=1", headers=root)).json()
    assert [each["scope"] for each in first["items"]] == ["read:items"]
    rest = await client.get(f"/users/{alice.id}/grants?after={first['next']}", headers=root)
    assert [each["scope"] for each in rest.json()["items"]] == ["write:items"]
    clock.move(hours=1)
    root = await bearer(client, Someone(alice.id, "root"))
    assert list(await granted(client, root, alice)) == ["read:items"]


async def test_revoking_again_is_the_same(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    for scope in ("read:items", "read:items", "introspect"):
        assert (await client.delete(path(alice, scope), headers=root)).status_code == 204
    assert await granted(client, root, alice) == {}


@pytest.mark.parametrize(
    ("scope", "terms", "status"),
    [
        ("no:such", None, 404),
        ("%00", None, 404),
        ("x" * 3000, None, 404),
        ("é", None, 404),
        ("read:items", {"expires_at": "2001-01-01T00:00:00Z"}, 422),
        ("read:items", {"expires_at": "2100-01-01T00:00:00"}, 422),
        ("read:items", {"expires_at": "9999-12-31T23:59:59-12:00"}, 422),
        ("read:items", {"expires_at": "soon"}, 422),
        ("read:items", {"expires_at": 4102444800}, 422),
        ("read:items", {"expires_at": "4102444800"}, 422),
        ("read:items", {"reason": "nul\0"}, 422),
        ("read:items", {"reason": "\ud800"}, 422),
        ("read:items", {"reason": "x" * 501}, 422),
        ("read:items", [], 422),
    ],
)
async def test_grants_that_cant_be_are_refused(
    client: httpx2.AsyncClient, root: Headers, alice: Someone, scope: str, terms: Any, status: int
) -> None:
    before = await granted(client, root, alice)
    # Not json=: the client would refuse to send a lone surrogate.
    headers = {**root, "Content-Type": "application/json"}
    answer = await client.put(path(alice, scope), content=json.dumps(terms), headers=headers)
    assert answer.status_code == status, answer.text
    assert await granted(client, root, alice) == before


async def test_odd_names_in_paths_and_queries_do_no_harm(
    client: httpx2.AsyncClient, root: Headers, alice: Someone
) -> None:
    answers = [
        await client.delete(path(alice, "%00"), headers=root),
        await client.get(f"/users/{alice.id}/grants?after=%00", headers=root),
        await client.get("/scopes?after=%00", headers=root),
    ]
    assert [answer.status_code for answer in answers] == [422] * 3
    assert (await client.delete(path(alice, "%C3%A9"), headers=root)).status_code == 204
