"""One's own sessions and password; revocation; introspection; service accounts; discovery."""

import asyncio
import base64
import itertools
import uuid

import httpx2
import pytest
from sqlalchemy import select, text

from app.access.authority import OPERATOR
from app.access.grants import grant, revoke
from app.errors import Refused
from app.identity.account_writes import (
    create_service,
    disable_user,
    enable_user,
    make_secret,
    revoke_secret,
)
from app.identity.clients import NewSecret, SecretNotFound, TooManySecrets
from app.identity.locks import _lock_key, hold_users
from app.identity.models import Session
from app.runtime import Runtime
from tests.clock import MovableClock
from tests.conftest import client_of, settings_for
from tests.factories import PASSWORD, Someone, login, make_user
from tests.holding import until_waiting
from tests.telling import Told, told

pytestmark = pytest.mark.every_token_kind

NEW_PASSWORD = "wrong donkey battery staple"


def header(pair: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


async def sign_in(client: httpx2.AsyncClient, user: Someone, **form: str) -> dict[str, str]:
    answer = await login(client, user, **form)
    assert answer.status_code == 200, answer.text
    pair: dict[str, str] = answer.json()
    return pair


async def works(client: httpx2.AsyncClient, pair: dict[str, str]) -> bool:
    return (await client.get("/users/me", headers=header(pair))).status_code == 200


async def service(
    runtime: Runtime, name: str, *scopes: str
) -> tuple[uuid.UUID, NewSecret, dict[str, str]]:
    async with runtime.work(OPERATOR) as work:
        user, secret = await create_service(work, username=name)
        for scope in scopes:
            await grant(work, user.id, scope)
    return user.id, secret, {"client_id": name, "client_secret": secret.value}


async def test_sessions_are_listed_by_page_and_ended_one_by_one(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    pairs = [await sign_in(client, alice) for _ in range(3)]
    me = header(pairs[0])
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
    assert [await works(client, pair) for pair in pairs] == [True, False, True]
    assert len((await client.get("/users/me/sessions", headers=me)).json()["items"]) == 2


async def test_somebody_elses_session_is_not_found(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    mine = await sign_in(client, alice)
    theirs = await sign_in(client, await make_user(runtime))
    listed = (await client.get("/users/me/sessions", headers=header(theirs))).json()["items"]
    for session_id in (listed[0]["id"], uuid.uuid4()):
        answer = await client.delete(f"/users/me/sessions/{session_id}", headers=header(mine))
        assert answer.status_code == 404
    assert await works(client, theirs)


async def test_all_sessions_end_at_once(client: httpx2.AsyncClient, alice: Someone) -> None:
    pairs = [await sign_in(client, alice) for _ in range(2)]
    answer = await client.delete("/users/me/sessions", headers=header(pairs[0]))
    assert answer.status_code == 204
    assert [await works(client, pair) for pair in pairs] == [False, False]


async def test_a_new_password_ends_all_other_sessions(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    here, elsewhere = await sign_in(client, alice), await sign_in(client, alice)
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    answer = await client.post("/users/me/password", json=body, headers=header(here))
    assert answer.status_code == 204
    assert [await works(client, pair) for pair in (here, elsewhere)] == [True, False]
    refresh = {"grant_type": "refresh_token", "refresh_token": elsewhere["refresh_token"]}
    assert (await client.post("/token", data=refresh)).status_code == 400
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
    answer = await client.post("/users/me/password", json=body, headers=header(here))
    assert answer.status_code == status
    assert current not in answer.text
    assert await works(client, elsewhere)
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
                headers=header(pair),
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
            own_client.post("/users/me/password", json=body, headers=header(here)),
            *(login(own_client, user) for _ in range(4)),
        )
        assert changed.status_code == 204
        for answer in logins:
            assert answer.status_code in {200, 400}
            if answer.status_code == 200:
                assert not await works(own_client, answer.json()), "with the old password"


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", [{}, {"token_type_hint": "refresh_token"}])
async def test_revoking_a_token_ends_its_session(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, which: str, hint: dict[str, str]
) -> None:
    pair, other = await sign_in(client, alice), await sign_in(client, alice)
    for _ in range(2):
        answer = await client.post("/revoke", data={"token": pair[which], **hint})
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
    assert [await works(client, each) for each in (pair, other)] == [False, True]
    async with runtime.sessions() as db:
        ended = select(Session.end_reason).where(Session.ended_at.is_not(None))
        assert (await db.scalars(ended)).all() == ["token revoked"]
    refresh = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert (await client.post("/token", data=refresh)).status_code == 400


async def test_an_expired_access_token_still_signs_out(
    client: httpx2.AsyncClient, alice: Someone, clock: MovableClock
) -> None:
    pair = await sign_in(client, alice)
    clock.move(seconds=901)
    assert (await client.post("/revoke", data={"token": pair["access_token"]})).status_code == 200
    refresh = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert (await client.post("/token", data=refresh)).status_code == 400


async def test_revoking_no_token_is_200_and_a_missing_one_400(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    for token in ("x", "a.b.c", "sgo_x", "sgr_x", "sgr_" + "A" * 72, "é\0"):
        answer = await client.post("/revoke", data={"token": token})
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
    for form in (b"", b"token=", b"token=a&token=b"):
        answer = await client.post(
            "/revoke",
            content=form,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    answer = await client.post(
        "/revoke", data={"token": "x", "client_id": "a", "client_secret": "b"}
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_introspection_shows_the_scopes_that_count_now(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, clock: MovableClock
) -> None:
    _, _, credentials = await service(runtime, "gateway", "introspect")
    before, pair, after = [await sign_in(client, alice) for _ in range(3)]

    async def introspect(token: str) -> dict[str, object]:
        answer = await client.post("/introspect", data={"token": token, **credentials})
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        found: dict[str, object] = answer.json()
        return found

    access = await introspect(pair["access_token"])
    assert access["active"] is True
    assert access["scope"] == "read:items"
    assert (access["sub"], access["username"]) == (str(alice.id), "Alice")
    assert access["client_id"] == "scopegate"
    assert access["iss"] == access["aud"] == runtime.settings.token_issuer
    assert access["token_type"] == "bearer"
    assert {"exp", "iat", "jti", "sid"} <= set(access)
    refresh = await introspect(pair["refresh_token"])
    assert (refresh["active"], refresh["sid"]) == (True, access["sid"])
    assert (refresh["token_type"], refresh["scope"]) == ("refresh_token", "read:items")
    others = {(await introspect(each["refresh_token"]))["sid"] for each in (before, after)}
    assert len(others - {access["sid"]}) == 2
    async with runtime.work(OPERATOR) as work:
        await revoke(work, alice.id, "read:items")
    assert (await introspect(pair["access_token"]))["scope"] == ""
    await client.post("/revoke", data={"token": pair["access_token"]})
    for token in (pair["access_token"], pair["refresh_token"], "x", "sgr_" + "A" * 72):
        assert await introspect(token) == {"active": False}
    expired = await sign_in(client, alice)
    used = await sign_in(client, alice)
    form = {"grant_type": "refresh_token", "refresh_token": used["refresh_token"]}
    assert (await client.post("/token", data=form)).status_code == 200
    assert await introspect(used["refresh_token"]) == {"active": False}
    clock.move(seconds=901)
    assert await introspect(expired["access_token"]) == {"active": False}


async def test_only_who_holds_introspect_may_ask(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    pair = await sign_in(client, alice)
    form = {"token": pair["access_token"]}
    nobody = await client.post("/introspect", data=form)
    assert nobody.status_code == 401
    assert set(nobody.json()) == {"error", "error_description"}
    user_agent = await client.post("/introspect", data=form, headers=header(pair))
    assert (user_agent.status_code, user_agent.json()["error"]) == (403, "insufficient_scope")
    _, _, without = await service(runtime, "without")
    assert (await client.post("/introspect", data={**form, **without})).status_code == 403
    wrong = {"client_id": "without", "client_secret": "x"}
    assert (await client.post("/introspect", data={**form, **wrong})).status_code == 401
    asker = await sign_in(client, await make_user(runtime, "introspect"))
    allowed = await client.post("/introspect", data=form, headers=header(asker))
    assert allowed.json()["active"] is True
    missing = await client.post("/introspect", data={"x": "y"}, headers=header(asker))
    assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")


async def test_client_credentials_give_an_access_token_and_no_other(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user_id, _, credentials = await service(runtime, "worker", "read:items", "write:items")
    form = {"grant_type": "client_credentials", "scope": "read:items admin"}
    basic = base64.b64encode(":".join(credentials.values()).encode()).decode()
    for request in (
        {"data": {**form, **credentials}},
        {"data": form, "headers": {"Authorization": f"Basic {basic}"}},
    ):
        answer = await client.post("/token", **request)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        assert answer.json()["scope"] == "read:items"
        assert "refresh_token" not in answer.json()
        token = header(answer.json())
        claims = await runtime.access_tokens.read(answer.json()["access_token"], now=runtime.now())
        assert (claims.subject, claims.client_id) == (user_id, "worker")
        me = (await client.get("/users/me", headers=token)).json()
        assert (me["kind"], me["username"]) == ("service", "worker")
        assert (await client.get("/items", headers=token)).status_code == 200
    async with runtime.work(OPERATOR) as work:
        await revoke(work, user_id, "read:items")
    assert (await client.get("/items", headers=token)).status_code == 403
    async with runtime.work(OPERATOR) as work:
        await disable_user(work, user_id)
    assert (await client.get("/users/me", headers=token)).status_code == 401
    answer = await client.post("/token", data={**form, **credentials})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "client_form",
    [
        {},
        {"client_id": "worker"},
        {"client_id": "worker", "client_secret": "wrong"},
        {"client_id": "nobody", "client_secret": "wrong"},
        {"client_id": "Alice", "client_secret": PASSWORD},
    ],
)
async def test_client_credentials_without_a_good_secret_are_invalid_client(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, client_form: dict[str, str]
) -> None:
    await service(runtime, "worker", "read:items")
    form = {"grant_type": "client_credentials", **client_form}
    answer = await client.post("/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_a_client_id_is_compared_to_the_letter(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """As RFC 6749 §1.9 has it of all values: only people's names forgive another case."""
    _, _, credentials = await service(runtime, "worker", "read:items")
    form = {"grant_type": "client_credentials", **credentials}
    assert (await client.post("/token", data=form)).status_code == 200
    answer = await client.post("/token", data={**form, "client_id": "Worker"})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_two_secrets_live_at_a_time_for_changing_over(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    user_id, first, credentials = await service(runtime, "worker", "read:items")
    async with runtime.work(OPERATOR) as work:
        second = await make_secret(work, user_id)
        with pytest.raises(TooManySecrets):
            await make_secret(work, user_id)
        with pytest.raises(Refused):
            await make_secret(work, alice.id)

    async def status(secret: NewSecret) -> int:
        form = {**credentials, "client_secret": secret.value, "grant_type": "client_credentials"}
        return (await client.post("/token", data=form)).status_code

    assert [await status(first), await status(second)] == [200, 200]
    async with runtime.work(OPERATOR) as work:
        await revoke_secret(work, user_id, first.id)
        with pytest.raises(SecretNotFound):
            await revoke_secret(work, user_id, first.id)
    assert [await status(first), await status(second)] == [401, 200]


@pytest.mark.parametrize("grant_type", ["client_credentials", "refresh_token", "password"])
async def test_a_secret_revoked_in_the_instant_of_its_use_opens_nothing(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, grant_type: str
) -> None:
    user_id, secret, credentials = await service(own_runtime, "worker", "read:items")
    alice = await make_user(own_runtime, "read:items")
    bound = (await login(own_client, alice, **credentials)).json()
    form = {
        "grant_type": grant_type,
        "refresh_token": bound["refresh_token"],
        "username": alice.username,
        "password": PASSWORD,
        **credentials,
    }
    async with own_runtime.work(OPERATOR) as work:
        await revoke_secret(work, user_id, secret.id)
        asking = asyncio.create_task(own_client.post("/token", data=form))
        await until_waiting(own_runtime, "advisory")
    answer = await asking
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    async with own_runtime.sessions() as db:
        why = "the client was changed meanwhile"
        if grant_type == "password":
            refused: Told = (user_id, alice.id, {"reason": f"right password, but: {why}"})
        else:
            refused = (None, user_id, {"reason": f"right client secret, but: {why}"})
        assert await told(db, "login.failed") == [refused], "one entry, and it names all"


@pytest.mark.parametrize("first", ["the person", "the client"])
async def test_a_login_with_a_client_takes_its_locks_as_whoever_holds_both_does(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, first: str
) -> None:
    """Or else each would wait for the other, whichever of the two comes first in order."""
    services = itertools.count()
    while True:  # Both are new each time: hardly any person comes before the lowest client.
        client_id, _, credentials = await service(own_runtime, f"worker-{next(services)}")
        person = await make_user(own_runtime)
        if (_lock_key(person.id) < _lock_key(client_id)) == (first == "the person"):
            break
    lower, higher = sorted((person.id, client_id), key=_lock_key)
    async with own_runtime.work(OPERATOR) as work:
        await hold_users(work.db, lower)
        signing_in = asyncio.create_task(login(own_client, person, **credentials))
        await until_waiting(own_runtime, "advisory")
        await hold_users(work.db, higher)
    assert (await signing_in).status_code == 200


@pytest.mark.parametrize("name", ["scopegate", "Scopegate", "a:b", "dienst-ü", "two words"])
async def test_service_names_fit_in_basic_and_are_not_the_products_own(
    runtime: Runtime, name: str
) -> None:
    async with runtime.work(OPERATOR) as work:
        with pytest.raises(Refused):
            await create_service(work, username=name)


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
    assert metadata["response_types_supported"] == []
    assert metadata["grant_types_supported"] == [
        "password",
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


async def test_one_connection_is_enough_for_every_endpoint(own_database_url: str) -> None:
    """Whoever needs two of a pool at once can wait for ever for the second."""
    settings = settings_for(
        own_database_url,
        database_pool_size=1,
        database_pool_timeout=5,
        access_token_format="opaque",
    )
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        user = await make_user(runtime, "read:items", "write:items")
        _, _, credentials = await service(runtime, "gateway", "introspect")
        pair = await sign_in(client, user, **credentials)
        item = await client.post("/items", json={"title": "Lamp"}, headers=header(pair))
        assert item.status_code == 201
        form = {"token": pair["access_token"], **credentials}
        assert (await client.post("/introspect", data=form)).json()["active"] is True
        refresh = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        assert (await client.post("/token", data={**refresh, **credentials})).status_code == 200
        body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        changed = await client.post("/users/me/password", json=body, headers=header(pair))
        assert changed.status_code == 204
        assert (await client.post("/revoke", data=form)).status_code == 200
        assert not await works(client, pair)


async def test_a_service_disabled_meanwhile_gets_no_token_that_enabling_would_revive(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    user_id, _, credentials = await service(own_runtime, "worker", "read:items")
    form = {"grant_type": "client_credentials", **credentials}
    async with own_runtime.sessions() as blocking:
        await blocking.execute(text("LOCK TABLE grants"))
        asking = asyncio.create_task(own_client.post("/token", data=form))
        await until_waiting(own_runtime, "relation")
        disabling = asyncio.create_task(disable(own_runtime, user_id))
        await asyncio.wait({disabling}, timeout=0.2)
        await blocking.rollback()
    await disabling
    answer = await asking
    async with own_runtime.work(OPERATOR) as work:
        await enable_user(work, user_id)
    assert answer.status_code == 400 or not await works(own_client, answer.json())


async def disable(runtime: Runtime, user_id: uuid.UUID) -> None:
    async with runtime.work(OPERATOR) as work:
        await disable_user(work, user_id)


async def test_an_access_token_never_outlives_its_session(
    client: httpx2.AsyncClient, alice: Someone, clock: MovableClock
) -> None:
    pair = await sign_in(client, alice)
    for _ in range(3):
        clock.move(days=9)
        form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        pair = (await client.post("/token", data=form)).json()
    clock.move(days=3, seconds=-100)
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    last = (await client.post("/token", data=form)).json()
    assert 90 <= last["expires_in"] <= 100


async def test_a_bearer_and_a_secret_at_once_are_two_ways(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    _, _, credentials = await service(runtime, "gateway", "introspect")
    pair = await sign_in(client, await make_user(runtime, "introspect"))
    form = {"token": pair["access_token"], **credentials}
    answer = await client.post("/introspect", data=form, headers=header(pair))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
