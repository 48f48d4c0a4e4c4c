"""Finding users: newest first, by kind, by state and by what they hold; counted; last sign-ins."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert, select
from uuid_utils.compat import uuid7

from app.access.grants import grant, revoke
from app.identity.account_writes import create_service, disable_user
from app.identity.models import User
from app.identity.users import MOST_COUNTED
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, Someone, bearer, login, make_user, refresh

Headers = dict[str, str]


@pytest.fixture
async def crowd(runtime: Runtime, root: Headers, clock: MovableClock) -> None:
    """Root first, then three people and a service."""
    ann = await make_user(runtime, "read:items", "read:users", username="ann")
    ben = await make_user(runtime, "read:items", username="ben")
    await make_user(runtime, username="cleo")
    async with runtime.work(OPERATOR) as work:
        worker, _ = await create_service(work, username="worker")
        await grant(work, worker.id, "introspect")
        soon = clock() + timedelta(minutes=5)
        await grant(work, worker.id, "read:audit", expires_at=soon)
        await disable_user(work, ben.id)
        await revoke(work, ann.id, "read:users")


async def listed(client: httpx2.AsyncClient, by: Headers, **query: Any) -> dict[str, Any]:
    answer = await client.get("/users", params=query, headers=by)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def names(client: httpx2.AsyncClient, by: Headers, **query: Any) -> list[str]:
    return [each["username"] for each in (await listed(client, by, **query))["items"]]


async def test_users_are_listed_newest_first_by_page(
    client: httpx2.AsyncClient, root: Headers, crowd: None
) -> None:
    first = await listed(client, root, limit=3)
    rest = await listed(client, root, limit=3, after=first["next"])
    found = [each["username"] for each in first["items"] + rest["items"]]
    assert found == ["worker", "cleo", "ben", "ann", "root"]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"kind": "service"}, ["worker"]),
        ({"kind": "person"}, ["cleo", "ben", "ann", "root"]),
        ({"disabled": "true"}, ["ben"]),
        ({"disabled": "false"}, ["worker", "cleo", "ann", "root"]),
        ({"scope": "read:items"}, ["ben", "ann"]),
        ({"scope": "admin"}, ["root"]),
        ({"scope": "read:users"}, []),
        ({"scope": "no:such"}, []),
        ({"scope": "read:items", "disabled": "false"}, ["ann"]),
        ({"scope": "introspect", "kind": "person"}, []),
        ({"q": "E", "kind": "person", "disabled": "false"}, ["cleo"]),
    ],
)
async def test_users_are_narrowed_by_kind_state_and_scope_and_counted(
    client: httpx2.AsyncClient,
    root: Headers,
    crowd: None,
    query: dict[str, str],
    expected: list[str],
) -> None:
    page = await listed(client, root, **query)
    assert [each["username"] for each in page["items"]] == expected
    assert page["count"] == len(expected)


async def test_who_holds_a_scope_is_found_until_the_grant_ends(
    client: httpx2.AsyncClient, root: Headers, crowd: None, clock: MovableClock
) -> None:
    assert await names(client, root, scope="read:audit") == ["worker"]
    clock.move(minutes=6)
    assert await names(client, root, scope="read:audit") == []


@pytest.mark.parametrize(
    "query", ["kind=robot", "disabled=perhaps", "scope=%00", f"scope={'x' * 129}", "limit=101"]
)
async def test_a_filter_that_cant_be_is_refused(
    client: httpx2.AsyncClient, root: Headers, query: str
) -> None:
    assert (await client.get(f"/users?{query}", headers=root)).status_code == 422


async def test_the_count_is_that_of_all_pages_and_stops_where_nobody_reads_on(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers
) -> None:
    rows = [{"id": uuid7(), "username": f"u{n}", "username_key": f"u{n}"} for n in range(50)]
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(insert(User), rows)
    first = await listed(client, root, limit=10)
    assert first["count"] == 51
    assert (await listed(client, root, limit=10, after=first["next"]))["count"] is None
    rows = [{"id": uuid7(), "username": f"v{n}", "username_key": f"v{n}"} for n in range(11_000)]
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(insert(User), rows)
    assert (await listed(client, root))["count"] == MOST_COUNTED + 1
    assert (await listed(client, root, q="u"))["count"] == 50


async def test_the_last_sign_in_is_shown_to_the_minute(
    client: httpx2.AsyncClient, runtime: Runtime, root: Headers, alice: Someone, clock: MovableClock
) -> None:
    path = f"/users/{alice.id}"

    async def last() -> str | None:
        found: str | None = (await client.get(path, headers=root)).json()["last_sign_in_at"]
        assert (await listed(client, root, q="alice"))["items"][0]["last_sign_in_at"] == found
        return found

    assert await last() is None
    assert (await login(client, alice, password="wrong wrong wrong")).status_code == 400
    assert await last() is None, "a refusal is no sign-in"
    pair = (await login(client, alice)).json()
    first = await last()
    assert first is not None
    assert abs(datetime.fromisoformat(first) - clock()) < timedelta(minutes=1)
    clock.move(seconds=30)
    await bearer(client, alice)
    assert await last() == first, "within a minute it is not written again"
    clock.move(minutes=2)
    assert (await refresh(client, pair["refresh_token"])).status_code == 200
    assert await last() == first, "a refresh is no sign-in"
    root = await bearer(client, await make_user(runtime, "read:users"))
    await bearer(client, alice)
    second = await last()
    assert second is not None
    assert datetime.fromisoformat(second) - datetime.fromisoformat(first) > timedelta(minutes=2)


async def test_a_services_last_sign_in_is_its_last_token(
    client: httpx2.AsyncClient, root: Headers
) -> None:
    body = {"username": "worker", "kind": "service"}
    made = (await client.post("/users", json=body, headers=root)).json()
    assert "last_sign_in_at" not in made
    path = f"/users/{made['id']}"
    assert (await client.get(path, headers=root)).json()["last_sign_in_at"] is None
    form = {name: made[name] for name in ("client_id", "client_secret")}
    token = await client.post("/token", data={"grant_type": "client_credentials", **form})
    assert token.status_code == 200
    assert (await client.get(path, headers=root)).json()["last_sign_in_at"] is not None


async def test_a_sign_in_is_no_change_that_replicas_hear_of(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """It is written in the users' row, whose changes make every replica forget the user."""
    alice = await make_user(own_runtime, "read:items")
    token = await bearer(own_client, alice)
    assert (await own_client.get("/items", headers=token)).status_code == 200
    forgotten = own_runtime.principals.counts.forgotten
    async with own_runtime.sessions() as db:
        before = await db.scalar(select(User.last_sign_in_at).where(User.id == alice.id))
    async with own_runtime.work(OPERATOR) as work:
        user = await work.db.get_one(User, alice.id)
        user.last_sign_in_at = None
    assert before is not None
    await bearer(own_client, alice)
    assert (await own_client.get("/items", headers=token)).status_code == 200
    assert own_runtime.principals.counts.forgotten == forgotten


async def test_without_the_scope_nobody_is_listed_by_any_filter(
    client: httpx2.AsyncClient, alice: Someone, crowd: None
) -> None:
    token = await bearer(client, alice)
    for query in ("", "?kind=service", "?scope=admin", "?disabled=true"):
        assert (await client.get(f"/users{query}", headers=token)).status_code == 403
    path = f"/users/{uuid.uuid4()}/secrets"
    assert (await client.get(path, headers=token)).status_code == 403
