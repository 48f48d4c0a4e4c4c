"""GET /forward-auth: what a reverse proxy asks before it lets a request pass."""

import asyncio
from urllib.parse import unquote

import httpx2
import pytest

from app.access.grants import grant, revoke
from app.access.registry import register_scope
from app.identity.account_writes import disable_user
from app.runtime import Runtime
from tests.api.test_enforcement import Work, work_of
from tests.support.factories import OPERATOR, Someone, bearer, login, make_user, status

PATH = "/forward-auth"
USER, NAME, SCOPE = (f"x-auth-request-{each}" for each in ("user", "preferred-username", "scope"))


async def ask(
    client: httpx2.AsyncClient, token: dict[str, str], query: str = "", method: str = "GET"
) -> httpx2.Response:
    return await client.request(method, PATH + query, headers=token)


@pytest.mark.every_token_kind
async def test_a_good_bearer_is_200_and_names_the_user_and_the_scopes_in_force(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "read:items", "write:items", "read:users", username="Alice")
    token = await bearer(client, user, scope="write:items read:items")
    for query in ("", "?scope=read:items", "?scope=read:items%20write:items"):
        answer = await ask(client, token, query)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers[USER] == str(user.id)
        assert answer.headers[NAME] == "Alice"
        assert answer.headers[SCOPE] == "read:items write:items"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?scope=read:items", 200),
        ("?scope=read:items+read:users", 200),
        ("?scope=read:items&scope=read:users", 200),
        ("?scope=++read:items++read:items", 200),
        ("?scope=write:items", 403),
        ("?scope=read:items%20write:items", 403),
        ("?scope=read:items&scope=write:items", 403),
        ("?scope=admin", 403),
        ("?scope=nobody:has-this", 403),
        ("?scope=read:item", 403),
        ("?scope=READ:ITEMS", 403),
    ],
)
async def test_every_scope_named_is_needed(
    client: httpx2.AsyncClient, runtime: Runtime, query: str, expected: int
) -> None:
    token = await bearer(client, await make_user(runtime, "read:items", "read:users"))
    answer = await ask(client, token, query)
    assert answer.status_code == expected
    if expected == 403:
        asked = query.removeprefix("?scope=").replace("&scope=", " ").replace("%20", " ")
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="scopegate", error="insufficient_scope"')
        assert f'scope="{asked}"' in challenge
        assert USER not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        "?scope=",
        "?scope",
        "?scope=%20",
        "?scope=read:items&scope=",
        "?scopes=read:items",
        "?Scope=read:items",
        "?scope=read:items&uri=/orders",
        '?scope=read:"items"',
        "?scope=read:items%0A",
        "?scope=r%C3%A9ad",
        "?scope=read%5Citems",
        "?" + "scope=x&" * 90 + "y",
        "?scope=" + "x" * 4097,
        # Only an admin could pass where nobody can hold the scope.
        "?scope=nobody:has-this",
        "?scope=ADMIN",
        "?scope=read:items,write:items",
        "?scope=read:items;scope=write:items",
        "?scope=read:items&scope=read:item",
        "?scope=admin+nobody:has-this",
        "?scope=" + "x" * 129,
    ],
)
async def test_a_configuration_that_says_nothing_clear_lets_nobody_pass(
    client: httpx2.AsyncClient, root: dict[str, str], query: str
) -> None:
    answer = await ask(client, root, query)
    assert answer.status_code == 422, "not even an admin"
    assert USER not in answer.headers
    assert (await ask(client, {}, query)).status_code == 401, "the caller comes first"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?scope=", "The scope is empty: it names no scope."),
        ("?scope", "The scope is empty: it names no scope."),
        ("?scope=+%20", "The scope is empty: it names no scope."),
        ("?scope=read:items&scope=", "The scope is empty: it names no scope."),
        ('?scope="', "The scope has characters that no scope has."),
        ("?scope=" + "x" * 4097, "The scope is longer than 4096 bytes: ask for less."),
    ],
)
async def test_a_scope_that_is_none_is_told_why(
    client: httpx2.AsyncClient, alice: Someone, query: str, reason: str
) -> None:
    answer = await ask(client, await bearer(client, alice), query)
    assert [each["msg"] for each in answer.json()["detail"]] == [reason]


async def test_an_admin_is_told_which_scopes_are_not_registered(
    client: httpx2.AsyncClient, root: dict[str, str]
) -> None:
    answer = await ask(client, root, "?scope=read:items+read:items,admin&scope=no:such")
    assert answer.status_code == 422
    assert "There is no scope no:such read:items,admin: register it" in answer.json()["detail"]


@pytest.mark.parametrize("written", ["&scope=", "+", "%20"])
async def test_as_many_scopes_as_a_url_has_room_for_may_be_named(
    client: httpx2.AsyncClient, runtime: Runtime, written: str
) -> None:
    names = [f"{number:02}".ljust(128, "x") for number in range(29)]
    async with runtime.work(OPERATOR) as work:
        for name in names:
            await register_scope(work, name, description="")
    token = await bearer(client, await make_user(runtime, *names))
    query = f"?scope={written.join(names)}"
    assert 3700 < len(query) < 4096
    assert (await ask(client, token, query)).status_code == 200
    answer = await ask(client, token, f"{query}{written}admin")
    assert answer.status_code == 403
    assert " ".join([*names, "admin"]) in answer.headers["www-authenticate"]
    short = f"?scope={written.join(['read:items'] * 100)}"
    assert (
        await ask(client, await bearer(client, await make_user(runtime)), short)
    ).status_code == 403


async def test_without_a_good_token_it_is_401_with_a_challenge(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    refresh_token = (await login(client, alice)).json()["refresh_token"]
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"X-Auth-Request-User": "root"}):
        answer = await ask(client, headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="scopegate"'
    for token in ("", "x", "a.b.c", refresh_token):
        answer = await ask(client, {"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert USER not in answer.headers
    answer = await client.get(PATH, headers=[("Authorization", "Bearer x")] * 2)
    assert answer.status_code == 400


async def test_an_admin_may_pass_everywhere_unless_the_token_says_less(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    async with runtime.work(OPERATOR) as work:
        await register_scope(work, "other:service", description="")
    admin = await make_user(runtime, "admin")
    token = await bearer(client, admin)
    assert (await ask(client, token, "?scope=other:service")).status_code == 200
    token = await bearer(client, admin, scope="read:items")
    assert (await ask(client, token, "?scope=other:service")).status_code == 403
    assert (await ask(client, token, "?scope=read:items")).status_code == 200


@pytest.mark.parametrize(
    "name", ["Jürgen", "日本語", "100%", "o'brien+x@example.org", "\U0001f40e"]
)
async def test_a_name_of_any_script_fits_in_the_header(
    client: httpx2.AsyncClient, runtime: Runtime, name: str
) -> None:
    token = await bearer(client, await make_user(runtime, username=name))
    written = (await ask(client, token)).headers[NAME]
    assert written.isascii()
    assert unquote(written) == name
    assert (written == name) == (name.isascii() and "%" not in name)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_asks_the_same_and_no_body_is_read(
    client: httpx2.AsyncClient, runtime: Runtime, method: str
) -> None:
    token = await bearer(client, await make_user(runtime, "read:items"))
    query = "?scope=read:items"
    assert (await ask(client, token, query, method)).status_code == 200
    assert (await ask(client, token, "?scope=write:items", method)).status_code == 403
    assert (await ask(client, {}, query, method)).status_code == 401
    assert (await ask(client, token, "?scope=", method)).status_code == 422


@pytest.mark.every_token_kind
async def test_a_proxy_s_question_runs_no_sql_and_hears_of_every_end(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    path = f"{PATH}?scope=ship:orders"
    async with own_runtime.work(OPERATOR) as work:
        await register_scope(work, "ship:orders", description="")
    user = await make_user(own_runtime, "ship:orders")
    token = await bearer(own_client, user)
    assert await status(own_client, token, path) == 200
    async with work_of(own_runtime) as done:
        for _ in range(20):
            assert await status(own_client, token, path) == 200
            assert await status(own_client, token, f"{PATH}?scope=other") == 403
            assert await status(own_client, {"Authorization": "Bearer forged"}, path) == 401
    assert done == Work(statements=0, connections=0)

    async with own_runtime.work(OPERATOR) as work:
        await revoke(work, user.id, "ship:orders")
    assert await status(own_client, token, path) == 403
    async with own_runtime.work(OPERATOR) as work:
        await grant(work, user.id, "ship:orders")
    assert await status(own_client, token, path) == 200
    async with own_runtime.engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM grants")
    async with asyncio.timeout(60):
        while await status(own_client, token, path) != 403:
            await asyncio.sleep(0.005)
    async with own_runtime.work(OPERATOR) as work:
        await disable_user(work, user.id)
    assert await status(own_client, token, path) == 401
