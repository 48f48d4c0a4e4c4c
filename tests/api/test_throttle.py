"""Too many wrong passwords or secrets, as clients see it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.identity.account_writes import create_service
from app.identity.models import User
from app.identity.throttle import ACCOUNT, ACCOUNT_AND_ADDRESS, SESSION
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.answers import seen
from tests.support.clock import MovableClock, StandingClock
from tests.support.factories import OPERATOR, PASSWORD, bearer, login, make_user, refresh
from tests.support.statements import statements_of

BURST = ACCOUNT_AND_ADDRESS.burst
WAIT = str(int(ACCOUNT_AND_ADDRESS.interval.total_seconds()))
HOME, AWAY = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def clock() -> MovableClock:
    return StandingClock()


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    """A client behind a trusted proxy: its X-Forwarded-For tells where it is."""
    settings = runtime.settings.model_copy(update={"trusted_proxies": (ip_network("127.0.0.1"),)})
    async with client_of(replace(runtime, settings=settings)) as client:
        client.headers["X-Forwarded-For"] = HOME
        yield client


def without_the_tests_own(statements: list[str]) -> list[str]:
    """Without savepoints, which stand for transactions here; and without the keyring's.

    It reads the keys every second, having no change feed.
    """
    return [each for each in statements if "SAVEPOINT" not in each and "signing_keys" not in each]


def assert_throttled(answer: httpx2.Response) -> None:
    assert answer.status_code == 429
    assert answer.json()["error"] == "temporarily_unavailable"
    assert answer.headers["retry-after"] == WAIT
    assert answer.headers["cache-control"] == "no-store"


async def test_the_throttle_bites_at_the_same_attempt_with_the_same_bytes_for_names_that_nobody_has(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    known, disabled, service = [await make_user(runtime) for _ in range(3)]
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(
            update(User).where(User.id == disabled.id).values(disabled_at=runtime.now())
        )
        await work.db.execute(update(User).where(User.id == service.id).values(kind="service"))
    found = []
    for number, (name, password) in enumerate(
        [
            (known.username, "wrong"),
            ("nobody", "wrong"),
            (disabled.username, PASSWORD),
            (service.username, PASSWORD),
        ]
    ):
        client.headers["X-Forwarded-For"] = f"192.0.2.{number}"
        form = {"username": name, "password": password}
        with statements_of(runtime) as statements:
            answers = [seen(await client.post("/token", data=form)) for _ in range(BURST + 2)]
        found.append((answers, without_the_tests_own(statements)))
    assert [status for status, *_ in found[0][0]] == [400] * BURST + [429] * 2
    for each in found:
        assert each == found[0]


async def test_what_is_refused_costs_one_look_and_no_hash_and_writes_nothing(
    client: httpx2.AsyncClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await make_user(runtime)
    for _ in range(BURST):
        assert (await login(client, alice, password="wrong")).status_code == 400
    monkeypatch.setattr(runtime.hasher, "_verify", None)
    with statements_of(runtime) as statements:
        assert_throttled(await login(client, alice))
    run = without_the_tests_own(statements)
    assert [statement.split()[0] for statement in run] == ["SELECT"]


async def test_retry_after_is_the_truth(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    alice = await make_user(runtime)
    for _ in range(BURST):
        await login(client, alice, password="wrong")
    answer = await login(client, alice)
    assert_throttled(answer)
    clock.move(seconds=int(answer.headers["retry-after"]))
    assert (await login(client, alice)).status_code == 200


async def test_a_wrong_current_password_is_throttled_in_fastapis_words(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    token = await bearer(client, await make_user(runtime))
    change = {"current_password": "wrong", "new_password": "another horse battery staple"}
    for _ in range(BURST):
        answer = await client.post("/users/me/password", json=change, headers=token)
        assert answer.status_code == 403
    change["current_password"] = PASSWORD
    answer = await client.post("/users/me/password", json=change, headers=token)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == WAIT
    assert answer.json() == {"detail": "There were too many wrong passwords or secrets."}


@pytest.mark.parametrize("after", ["nothing", "a refresh"])
async def test_a_stolen_token_can_not_guess_the_password_from_however_many_addresses(
    client: httpx2.AsyncClient, runtime: Runtime, after: str
) -> None:
    """And the owner, in another session, is not affected."""
    alice = await make_user(runtime)
    issued = (await login(client, alice)).json()
    stolen = {"Authorization": f"Bearer {issued['access_token']}"}
    change = {"current_password": "wrong", "new_password": "another horse battery staple"}
    for number in range(SESSION.burst):
        client.headers["X-Forwarded-For"] = f"203.0.113.{number}"
        answer = await client.post("/users/me/password", json=change, headers=stolen)
        assert answer.status_code == 403
    if after == "a refresh":
        issued = (await refresh(client, issued["refresh_token"])).json()
        stolen = {"Authorization": f"Bearer {issued['access_token']}"}
    change["current_password"] = PASSWORD
    for number in range(20, 23):
        client.headers["X-Forwarded-For"] = f"203.0.113.{number}"
        answer = await client.post("/users/me/password", json=change, headers=stolen)
        assert answer.status_code == 429
    client.headers["X-Forwarded-For"] = AWAY
    token = await bearer(client, alice)
    answer = await client.post("/users/me/password", json=change, headers=token)
    assert answer.status_code == 204


async def test_the_budget_of_a_session_is_whole_again_after_a_while(
    client: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    token = await bearer(client, await make_user(runtime))
    change = {"current_password": "wrong", "new_password": "another horse battery staple"}
    for number in range(SESSION.burst + 1):
        client.headers["X-Forwarded-For"] = f"203.0.113.{number}"
        answer = await client.post("/users/me/password", json=change, headers=token)
    assert answer.status_code == 429
    clock.move(seconds=int(answer.headers["retry-after"]))
    change["current_password"] = PASSWORD
    answer = await client.post("/users/me/password", json=change, headers=token)
    assert answer.status_code == 204, "the token's holder may be elsewhere"


async def test_guesses_from_elsewhere_do_not_keep_the_owner_from_changing_the_password(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """Wherever they are, with the session that they have."""
    alice = await make_user(runtime)
    token = await bearer(client, alice)
    for number in range(ACCOUNT.burst):
        client.headers["X-Forwarded-For"] = f"203.0.113.{number}"
        assert (await login(client, alice, password="wrong")).status_code == 400
    client.headers["X-Forwarded-For"] = AWAY
    assert (await login(client, alice)).status_code == 429, "the account's budget is used up"
    change = {"current_password": PASSWORD, "new_password": "another horse battery staple"}
    answer = await client.post("/users/me/password", json=change, headers=token)
    assert answer.status_code == 204


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
async def test_wrong_client_secrets_are_throttled_wherever_they_are_shown(
    client: httpx2.AsyncClient, runtime: Runtime, path: str
) -> None:
    async with runtime.work(OPERATOR) as work:
        service, secret = await create_service(work, username="worker")
    form: dict[str, Any] = {"grant_type": "client_credentials", "token": "x"}
    right = {**form, "client_id": service.username, "client_secret": secret.value}
    for number in range(BURST):
        where = ("/token", "/revoke", "/introspect")[number % 3]
        answer = await client.post(where, data={**right, "client_secret": "wrong"})
        assert answer.status_code == 401
    assert_throttled(await client.post(path, data=right))
    assert_throttled(await client.post(path, data={**right, "client_id": "worker"}))
    unknown = await client.post(path, data={**right, "client_id": "nobody"})
    assert unknown.status_code == 401, "another client there is another one's budget"
    client.headers["X-Forwarded-For"] = AWAY
    answer = await client.post(path, data=right)
    # 403: the secret is right, and the service does not hold `introspect`.
    assert answer.status_code == (403 if path == "/introspect" else 200)


async def test_a_right_client_secret_is_never_refused_for_what_happens_elsewhere(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    async with runtime.work(OPERATOR) as work:
        service, secret = await create_service(work, username="worker")
    form = {"grant_type": "client_credentials", "client_id": service.username}
    for number in range(150):
        client.headers["X-Forwarded-For"] = f"203.0.113.{number}"
        answer = await client.post("/token", data={**form, "client_secret": "wrong"})
        assert answer.status_code == 401
    client.headers["X-Forwarded-For"] = HOME
    answer = await client.post("/token", data={**form, "client_secret": secret.value})
    assert answer.status_code == 200
