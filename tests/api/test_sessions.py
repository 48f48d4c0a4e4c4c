"""One's own sessions and password; discovery."""

import asyncio
import uuid

import httpx2
import pytest

from app.runtime import Runtime
from tests.support.audit import told
from tests.support.clock import MovableClock
from tests.support.factories import PASSWORD, SignedIn, Someone, login, make_user, sign_in

pytestmark = pytest.mark.every_token_kind

NEW_PASSWORD = "wrong donkey battery staple"


async def test_sessions_are_listed_by_page_and_ended_one_by_one(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    pairs = [await sign_in(client, alice) for _ in range(3)]
    me = pairs[0].header
    first = (await client.get("/users/me/sessions?limit=2", headers=me)).json()
    rest = await client.get(f"/users/me/sessions?limit=2&after={first['next']}", headers=me)
    listed = first["items"] + rest.json()["items"]
    assert rest.json()["next"] is None
    assert len({each["id"] for each in listed}) == 3
    assert listed[0]["scopes"] == ["read:items"]
    assert listed[0]["user_agent"].startswith("python-httpx2")
    assert not {"refresh_key", "generation"} & set(listed[0])
    for _ in range(2):
        path = f"/users/me/sessions/{listed[1]['id']}"
        assert (await client.delete(path, headers=me)).status_code == 204
    assert [await pair.works() for pair in pairs] == [True, False, True]
    async with runtime.sessions() as db:
        (ended,) = await told(db, "session.ended")
    assert ended[2] == {"session": listed[1]["id"], "reason": "ended by its user"}
    assert len((await client.get("/users/me/sessions", headers=me)).json()["items"]) == 2


async def test_somebody_elses_session_is_not_found(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    mine = await sign_in(client, alice)
    theirs = await sign_in(client, await make_user(runtime))
    listed = (await client.get("/users/me/sessions", headers=theirs.header)).json()["items"]
    for session_id in (listed[0]["id"], uuid.uuid4()):
        answer = await client.delete(f"/users/me/sessions/{session_id}", headers=mine.header)
        assert answer.status_code == 404
    assert await theirs.works()


async def test_all_sessions_end_at_once(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    pairs = [await sign_in(client, alice) for _ in range(2)]
    answer = await client.delete("/users/me/sessions", headers=pairs[0].header)
    assert answer.status_code == 204
    assert [await pair.works() for pair in pairs] == [False, False]
    async with runtime.sessions() as db:
        (ended,) = await told(db, "session.ended")
    assert ended[2] == {"sessions": 2, "reason": "ended by its user"}


async def test_a_new_password_ends_all_other_sessions(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """At once, although both were remembered."""
    client, alice = own_client, await make_user(own_runtime, "read:items")
    here, elsewhere = await sign_in(client, alice), await sign_in(client, alice)
    assert [await pair.works() for pair in (here, elsewhere)] == [True, True]
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = await client.post("/users/me/password", json=body, headers=here.header)
    assert answer.status_code == 204
    assert [await pair.works() for pair in (here, elsewhere)] == [True, False]
    assert await elsewhere.refresh() == 400
    assert (await login(client, alice)).status_code == 400
    assert (await login(client, alice, password=NEW_PASSWORD)).status_code == 200


@pytest.mark.parametrize(
    ("current", "new", "status"),
    [
        ("not my password", NEW_PASSWORD, 403),
        (PASSWORD, "short", 422),
        (PASSWORD, "password123", 422),
        (PASSWORD, "nul\0nul\0nul", 422),
        ("x" * 100_000, NEW_PASSWORD, 403),
    ],
)
async def test_a_password_change_that_is_refused_changes_nothing(
    client: httpx2.AsyncClient, alice: Someone, current: str, new: str, status: int
) -> None:
    here, elsewhere = await sign_in(client, alice), await sign_in(client, alice)
    body = {"current_password": current, "new_password": new}
    answer = await client.post("/users/me/password", json=body, headers=here.header)
    assert answer.status_code == status
    assert current not in answer.text
    assert await elsewhere.works()
    assert (await login(client, alice)).status_code == 200


async def test_of_two_password_changes_at_once_one_wins(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    user = await make_user(own_runtime)
    pair = await sign_in(own_client, user)
    answers = await asyncio.gather(
        *(
            own_client.post(
                "/users/me/password",
                json={"current_password": PASSWORD, "new_password": f"{NEW_PASSWORD} {i}"},
                headers=pair.header,
            )
            for i in range(4)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [204, 403, 403, 403]


@pytest.mark.long
async def test_no_login_slips_past_a_password_change(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    for round_ in range(10):
        user = await make_user(own_runtime)
        here = await sign_in(own_client, user)
        body = {"current_password": PASSWORD, "new_password": f"{NEW_PASSWORD} {round_}"}
        changed, *logins = await asyncio.gather(
            own_client.post("/users/me/password", json=body, headers=here.header),
            *(login(own_client, user) for _ in range(4)),
        )
        assert changed.status_code == 204
        for answer in logins:
            assert answer.status_code in {200, 400}
            if answer.status_code == 200:
                session = SignedIn(own_client, answer.json())
                assert not await session.works(), "with the old password"


async def test_metadata_is_true_and_its_issuer_is_that_of_tokens(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    headers = {"Host": "attacker.example"}
    answer = await client.get("/.well-known/oauth-authorization-server", headers=headers)
    metadata = answer.json()
    issuer = metadata["issuer"]
    assert issuer == runtime.settings.token_issuer
    for endpoint in ("token_endpoint", "revocation_endpoint", "introspection_endpoint"):
        assert metadata[endpoint].startswith(issuer)
        path = metadata[endpoint].removeprefix(issuer)
        assert (await client.post(path, data={"x": "y"})).status_code in {400, 401}
    jwks = await client.get(metadata["jwks_uri"].removeprefix(issuer))
    assert jwks.status_code == 200
    assert metadata["response_types_supported"] == ["code"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert metadata["request_uri_parameter_supported"] is False
    assert metadata["grant_types_supported"] == [
        "password",
        "authorization_code",
        "refresh_token",
        "client_credentials",
    ]
    assert "read:items" in metadata["scopes_supported"]
    for which, methods in {
        "token": ["client_secret_basic", "client_secret_post", "none"],
        "revocation": ["client_secret_basic", "client_secret_post", "none"],
        "introspection": ["client_secret_basic", "client_secret_post"],
    }.items():
        assert metadata[f"{which}_endpoint_auth_methods_supported"] == methods


async def test_an_access_token_never_outlives_its_session(
    client: httpx2.AsyncClient, alice: Someone, clock: MovableClock
) -> None:
    session = await sign_in(client, alice)
    for _ in range(3):
        clock.move(days=9)
        assert await session.refresh() == 200
    clock.move(days=3, seconds=-100)
    assert await session.refresh() == 200
    assert 90 <= session.tokens["expires_in"] <= 100
