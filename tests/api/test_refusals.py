"""Right passwords and secrets that are refused for another reason: none is tested unseen."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, select, text, update

from app.audit.models import AuditEntry
from app.errors import InvalidScope
from app.identity.models import Session, User
from app.identity.throttle import ACCOUNT_AND_ADDRESS
from app.main import create_app
from app.runtime import Runtime
from app.tokens.issuing import Issued, Issuer
from tests.conftest import client_of
from tests.support.audit import Told, told
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user
from tests.support.locks import until_waiting
from tests.support.services import ServiceAccount, make_service

Form = dict[str, str]


@pytest.fixture
async def portal(runtime: Runtime) -> ServiceAccount:
    return await make_service(runtime, "portal", "read:items")


async def failures(runtime: Runtime) -> list[Told]:
    async with runtime.sessions() as db:
        return await told(db, "login.failed")


def right(what: str, reason: str) -> dict[str, str]:
    return {"reason": f"right {what}, but: {reason}"}


NONE_GRANTED = "None of the scopes asked for is granted."


async def test_a_right_password_refused_for_its_scope_is_audited_each_time(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    for _ in range(15):
        answer = await login(client, alice, scope="no-such-scope")
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    entry = (None, alice.id, right("password", NONE_GRANTED))
    assert await failures(runtime) == [entry] * 15
    async with runtime.sessions() as db:
        assert (await db.scalars(select(Session.id))).all() == []
    assert (await login(client, alice)).status_code == 200, "and it is no wrong one to be charged"


async def test_an_entry_tells_from_where_and_in_which_request(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    answer = await login(client, alice, scope="no-such-scope")
    async with runtime.sessions() as db:
        entry = (
            await db.scalars(select(AuditEntry).where(AuditEntry.action == "login.failed"))
        ).one()
    assert entry.address == "127.0.0.1"
    assert entry.request_id == answer.headers["x-request-id"]


async def test_a_right_password_by_a_client_is_one_entry_that_names_both(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, portal: ServiceAccount
) -> None:
    await login(client, alice, scope="no-such-scope", **portal.credentials)
    await login(client, alice, password="wrong", **portal.credentials)
    assert await failures(runtime) == [
        (portal.id, alice.id, right("password", NONE_GRANTED)),
        (portal.id, alice.id, {"reason": "wrong password"}),
    ]


@dataclass
class Case:
    """A request with a right secret that is refused, and why."""

    path: str
    form: Form
    code: str
    reason: str


REFUSALS = [
    Case(
        "/token",
        {"grant_type": "client_credentials", "scope": "no-such-scope"},
        "invalid_scope",
        NONE_GRANTED,
    ),
    Case(
        "/token",
        {"grant_type": "refresh_token", "refresh_token": "sgr_no_token"},
        "invalid_grant",
        "The refresh token is invalid, expired or revoked.",
    ),
    Case(
        "/introspect",
        {"token": "x"},
        "insufficient_scope",
        "This needs the scope: introspect.",
    ),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.code)
async def test_a_right_secret_that_is_refused_is_audited_whatever_refuses_it(
    client: httpx2.AsyncClient, runtime: Runtime, portal: ServiceAccount, case: Case
) -> None:
    answer = await client.post(case.path, data={**case.form, **portal.credentials})
    assert answer.json()["error"] == case.code, answer.text
    assert await failures(runtime) == [(None, portal.id, right("client secret", case.reason))]


async def test_a_right_secret_with_another_clients_refresh_token_is_audited(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, portal: ServiceAccount
) -> None:
    other = await make_service(runtime, "other")
    pair = (await login(client, alice, **portal.credentials)).json()
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    answer = await client.post("/token", data={**form, **other.credentials})
    assert answer.json()["error"] == "invalid_grant"
    reason = "The refresh token is invalid, expired or revoked."
    assert await failures(runtime) == [(None, other.id, right("client secret", reason))]
    assert (await client.post("/token", data={**form, **portal.credentials})).status_code == 200


async def test_what_a_route_refuses_after_a_dependency_let_the_secret_pass_is_audited(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    gateway = await make_service(runtime, "gateway", "introspect")
    answer = await client.post("/introspect", data=gateway.credentials)
    assert answer.json()["error"] == "invalid_request", "no token to look at"
    reason = "The parameter token is missing."
    assert await failures(runtime) == [(None, gateway.id, right("client secret", reason))]
    answer = await client.post("/introspect", data={"token": "x", **gateway.credentials})
    assert answer.json() == {"active": False}
    assert len(await failures(runtime)) == 1


async def test_a_right_secret_beside_a_throttled_name_is_audited(
    client: httpx2.AsyncClient, runtime: Runtime, portal: ServiceAccount
) -> None:
    form = {"username": "whoever", "password": "wrong"}
    for _ in range(ACCOUNT_AND_ADDRESS.burst):
        assert (await client.post("/token", data=form)).status_code == 400
    answer = await client.post("/token", data={**form, **portal.credentials})
    assert answer.status_code == 429
    reason = "There were too many wrong passwords or secrets."
    assert (await failures(runtime))[-1] == (None, portal.id, right("client secret", reason))


@pytest.mark.parametrize("put_out", ["disabled", "given another password"])
async def test_a_right_password_that_is_not_so_any_more_at_the_end_is_audited(
    own_client: httpx2.AsyncClient, own_runtime: Runtime, put_out: str
) -> None:
    user = await make_user(own_runtime)
    new: dict[str, Any] = {"disabled_at": own_runtime.now()}
    if put_out == "given another password":
        new = {"password_hash": "another"}
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("LOCK TABLE grants"))
        signing_in = asyncio.create_task(login(own_client, user))
        await until_waiting(own_runtime, "relation")
        await work.db.execute(update(User).where(User.id == user.id).values(new))
    answer = await signing_in
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    why = right("password", "changed meanwhile")
    assert (await failures(own_runtime))[-1:] == [(None, user.id, why)]


async def test_a_right_password_refused_by_a_constraint_of_the_database_is_audited(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Without the error's text, which may repeat what was sent."""
    user = await make_user(own_runtime, "read:items")
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("ALTER TABLE sessions ADD CHECK (user_agent <> 'unwanted')"))
    own_client.headers["User-Agent"] = "unwanted"
    answer = await login(own_client, user)
    assert answer.status_code == 409
    assert await failures(own_runtime) == [(None, user.id, right("password", "IntegrityError"))]


async def test_a_refusal_as_late_as_the_token_itself_is_audited(
    runtime: Runtime, alice: Someone, portal: ServiceAccount
) -> None:
    class TooLarge(Issuer):
        def write(self, *_: object, **__: object) -> Issued:
            raise InvalidScope("The token would be too large: ask for less.")

    issuer = TooLarge(**{name: getattr(runtime.issuer, name) for name in Issuer.__slots__})
    async with client_of(replace(runtime, issuer=issuer)) as client:
        assert (await login(client, alice)).json()["error"] == "invalid_scope"
        form = {"grant_type": "client_credentials", **portal.credentials}
        assert (await client.post("/token", data=form)).json()["error"] == "invalid_scope"
    reason = "The token would be too large: ask for less."
    assert await failures(runtime) == [
        (None, alice.id, right("password", reason)),
        (None, portal.id, right("client secret", reason)),
    ]


CHANGE = {"current_password": PASSWORD, "new_password": "something else entirely"}


async def test_a_right_current_password_with_a_weak_new_one_is_audited(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone
) -> None:
    token = await bearer(client, alice)
    change = {**CHANGE, "new_password": "password1"}
    answer = await client.post("/users/me/password", json=change, headers=token)
    assert answer.status_code == 422
    ((actor, subject, detail),) = await failures(runtime)
    assert actor == subject == alice.id
    assert detail == right("password", answer.json()["detail"])


async def test_a_right_current_password_of_a_session_that_has_just_ended_is_audited(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    user = await make_user(own_runtime)
    token = await bearer(own_client, user)
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(text("LOCK TABLE failure_budgets"))
        changing = asyncio.create_task(
            own_client.post("/users/me/password", json=CHANGE, headers=token)
        )
        await until_waiting(own_runtime, "relation")
        await work.db.execute(delete(Session))
    assert (await changing).status_code == 401
    why = right("password", "The access token is invalid, expired or revoked.")
    assert await failures(own_runtime) == [(user.id, user.id, why)]


async def test_a_refusal_that_cant_be_audited_is_answered_as_a_wrong_password_is(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Or else passwords could be tested unseen while the log can't be written."""
    user = await make_user(own_runtime)
    async with own_runtime.work(OPERATOR) as work:
        for statement in (
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$",
            "CREATE TRIGGER full_disk BEFORE INSERT ON audit_entries EXECUTE FUNCTION full_disk()",
        ):
            await work.db.execute(text(statement))
    right_one = await login(own_client, user, scope="no-such-scope")
    wrong_one = await login(own_client, user, password="wrong")
    assert right_one.status_code == wrong_one.status_code == 503
    assert right_one.content == wrong_one.content


async def client_at(runtime: Runtime, address: str) -> httpx2.AsyncClient:
    app = create_app(runtime.settings)
    app.state.runtime = runtime
    transport = httpx2.ASGITransport(app=app, client=(address, 50000))
    return httpx2.AsyncClient(transport=transport, base_url="http://a.test")


@pytest.fixture
async def attacker(runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    async with await client_at(runtime, "198.51.100.7") as client:
        yield client


async def test_wrong_secrets_write_ten_entries_a_minute_and_then_one_that_counts_the_rest(
    attacker: httpx2.AsyncClient, runtime: Runtime, clock: MovableClock
) -> None:
    async def guess(times: int) -> None:
        for _ in range(times):
            form = {"grant_type": "client_credentials", "client_secret": "wrong"}
            name = uuid.uuid4().hex
            answer = await attacker.post("/token", data={**form, "client_id": name})
            assert answer.status_code == 401

    await guess(35)
    reason = {"reason": "unknown client"}
    assert await failures(runtime) == [(None, None, reason)] * 10
    clock.move(seconds=61)
    await guess(2)
    later = (await failures(runtime))[10:]
    assert later == [(None, None, {**reason, "left_out": 25}), (None, None, reason)]
    assert runtime.throttle.entries.left_out == 25


async def test_a_right_secret_is_not_hidden_behind_wrong_ones(
    attacker: httpx2.AsyncClient, runtime: Runtime, portal: ServiceAccount
) -> None:
    form = {"grant_type": "client_credentials", "scope": "no-such-scope"}
    for _ in range(12):
        wrong = {"client_id": uuid.uuid4().hex, "client_secret": "wrong"}
        assert (await attacker.post("/token", data={**form, **wrong})).status_code == 401
    before = len(await failures(runtime))
    for _ in range(12):
        answer = await attacker.post("/token", data={**form, **portal.credentials})
        assert answer.json()["error"] == "invalid_scope"
    entry = (None, portal.id, right("client secret", NONE_GRANTED))
    assert (await failures(runtime))[before:] == [entry] * 10
    async with await client_at(runtime, "203.0.113.9") as elsewhere:
        await elsewhere.post("/token", data={**form, **portal.credentials})
    assert (await failures(runtime))[before:] == [entry] * 11, "from there it is the first"
