"""Another service that trusts the tokens, in both ways, beside a Scopegate that serves."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import httpx
import httpx2
import pytest

from app.access.grants import grant
from app.access.registry import register_scope
from app.identity.account_writes import create_service
from app.runtime import Runtime
from examples.resource_server.by_hand import create_app
from examples.resource_server.trust import ByAsking, ByKeys, Trust
from tests.conftest import SECRET, settings_for
from tests.support import databases
from tests.support.factories import OPERATOR, PASSWORD, Someone, make_user
from tests.support.processes import PATIENCE, Service, command, serving

pytestmark = pytest.mark.system
SCOPE = "read:orders"
NOBODY = "http://127.0.0.1:9"


@dataclass
class Beside:
    """A Scopegate that serves, a user who may read orders, and who may ask about tokens."""

    service: Service
    database_url: str
    reader: Someone
    client_secret: str

    def asking(self, http: httpx.AsyncClient, *, issuer: str | None = None) -> ByAsking:
        return ByAsking(
            http,
            issuer=issuer or self.service.url,
            client_id="orders",
            client_secret=self.client_secret,
            audience=self.service.url,
        )

    def token(self, scope: str = SCOPE) -> dict[str, str]:
        login = {"username": self.reader.username, "password": PASSWORD, "scope": scope}
        answer = httpx2.post(f"{self.service.url}/token", data=login)
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def sign_out(self, token: dict[str, str]) -> None:
        answer = httpx2.delete(f"{self.service.url}/users/me/sessions", headers=token)
        assert answer.status_code == 204


@pytest.fixture(scope="module")
async def beside(server_url: str, template: None) -> AsyncIterator[Beside]:
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    async with Runtime.open(settings_for(url)) as runtime:
        async with runtime.work(OPERATOR) as work:
            await register_scope(work, SCOPE, description="See orders")
            robot, secret = await create_service(work, username="orders")
            await grant(work, robot.id, "introspect")
        reader = await make_user(runtime, SCOPE, "read:items")
    with serving(database_url=url, secret_keys=SECRET) as service:
        yield Beside(service, url, reader, secret.value)
    await databases.drop(server_url, name)


class Asked(httpx.AsyncClient):
    """Counts what is asked of Scopegate."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        super().__init__(event_hooks={"request": [self.note]})

    async def note(self, request: httpx.Request) -> None:
        self.paths.append(request.url.path)


@pytest.fixture
async def http() -> AsyncIterator[Asked]:
    async with Asked() as client:
        yield client


def orders(trust: Trust, http: httpx.AsyncClient) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=create_app(trust, http))
    return httpx2.AsyncClient(transport=transport, base_url="http://orders")


@pytest.fixture(params=["keys", "asking"])
def trust(request: pytest.FixtureRequest, beside: Beside, http: Asked) -> Trust:
    if request.param == "keys":
        return ByKeys(http, issuer=beside.service.url)
    return beside.asking(http)


async def test_the_scope_decides_and_bad_tokens_are_challenged(
    beside: Beside, http: Asked, trust: Trust
) -> None:
    token = beside.token()
    async with orders(trust, http) as client:
        good = await client.get("/orders", headers=token)
        assert good.json() == [f"An order of {beside.reader.id}"]
        short = await client.get("/orders", headers=beside.token("read:items"))
        assert short.status_code == 403
        assert f'scope="{SCOPE}"' in short.headers["www-authenticate"]
        forged = token["Authorization"][:-4] + "AAAA"
        for header in (forged, "Bearer x", "Bearer \xe9"):
            bad = await client.get(
                "/orders", headers=[(b"Authorization", header.encode("latin-1"))]
            )
            assert bad.status_code == 401
            assert 'error="invalid_token"' in bad.headers["www-authenticate"]
        assert (await client.get("/orders")).status_code == 401


async def test_by_asking_a_revocation_counts_when_the_answer_is_a_second_old(
    beside: Beside, http: Asked
) -> None:
    token = beside.token()
    async with orders(beside.asking(http), http) as client, asyncio.timeout(PATIENCE):
        for _ in range(20):
            assert (await client.get("/orders", headers=token)).status_code == 200
        assert len(http.paths) < 20, "most were not asked"
        beside.sign_out(token)
        while (await client.get("/orders", headers=token)).status_code == 200:
            await asyncio.sleep(0.01)


async def test_by_keys_nobody_is_asked_and_a_revocation_waits_for_the_token_to_expire(
    beside: Beside, http: Asked
) -> None:
    token = beside.token()
    async with orders(ByKeys(http, issuer=beside.service.url), http) as client:
        for _ in range(20):
            assert (await client.get("/orders", headers=token)).status_code == 200
        assert http.paths == ["/.well-known/jwks.json"]
        beside.sign_out(token)
        assert (await client.get("/orders", headers=token)).status_code == 200


async def test_by_keys_a_new_key_is_fetched_when_it_is_first_seen(
    beside: Beside, http: Asked
) -> None:
    trust = ByKeys(http, issuer=beside.service.url, min_age=0)
    async with orders(trust, http) as client:
        assert (await client.get("/orders", headers=beside.token())).status_code == 200
        before = beside.token()
        database = {"database_url": beside.database_url, "secret_keys": SECRET}
        await command("key", "rotate", "--now", **database)
        assert (await client.get("/orders", headers=beside.token())).status_code == 200
        assert (await client.get("/orders", headers=before)).status_code == 200
    assert http.paths == ["/.well-known/jwks.json"] * 2


@pytest.mark.parametrize("way", ["keys", "asking"])
async def test_while_scopegate_is_away_nobody_is_let_in(
    beside: Beside, http: Asked, way: str
) -> None:
    away = ByKeys(http, issuer=NOBODY) if way == "keys" else beside.asking(http, issuer=NOBODY)
    async with orders(away, http) as client:
        answer = await client.get("/orders", headers=beside.token())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_by_asking_a_refresh_token_is_no_pass(beside: Beside, http: Asked) -> None:
    login = {"username": beside.reader.username, "password": PASSWORD}
    pair = httpx2.post(f"{beside.service.url}/token", data=login).json()
    async with orders(beside.asking(http), http) as client:
        headers = {"Authorization": f"Bearer {pair['refresh_token']}"}
        assert (await client.get("/orders", headers=headers)).status_code == 401


@pytest.mark.parametrize("behind", [0.3, 1, 5, 30])
async def test_by_keys_a_clock_that_is_behind_lets_fresh_tokens_in(
    beside: Beside, http: Asked, monkeypatch: pytest.MonkeyPatch, behind: float
) -> None:
    token = beside.token()
    set_clock_of_pyjwt(monkeypatch, seconds=-behind)
    async with orders(ByKeys(http, issuer=beside.service.url), http) as client:
        assert (await client.get("/orders", headers=token)).status_code == 200


async def test_by_keys_without_a_leeway_the_same_clock_refuses_fresh_tokens(
    beside: Beside, http: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = beside.token()
    set_clock_of_pyjwt(monkeypatch, seconds=-5)
    async with orders(ByKeys(http, issuer=beside.service.url, leeway=0), http) as client:
        assert (await client.get("/orders", headers=token)).status_code == 401


@pytest.mark.parametrize(("ahead", "status"), [(900 + 30, 200), (900 + 90, 401)])
async def test_by_keys_the_leeway_is_a_minute_after_the_end_too(
    beside: Beside, http: Asked, monkeypatch: pytest.MonkeyPatch, ahead: int, status: int
) -> None:
    token = beside.token()
    set_clock_of_pyjwt(monkeypatch, seconds=ahead)
    async with orders(ByKeys(http, issuer=beside.service.url), http) as client:
        assert (await client.get("/orders", headers=token)).status_code == status


async def test_the_example_s_own_documentation_signs_in_at_scopegate(
    beside: Beside, http: Asked, trust: Trust
) -> None:
    async with orders(trust, http) as client:
        schema = (await client.get("/openapi.json")).json()
    (scheme,) = schema["components"]["securitySchemes"].values()
    flow = scheme["flows"]["password"]
    assert flow["scopes"].keys() == {SCOPE}
    login = {"username": beside.reader.username, "password": PASSWORD, "scope": SCOPE}
    assert httpx2.post(flow["tokenUrl"], data=login).json()["scope"] == SCOPE


def set_clock_of_pyjwt(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Let the example, which runs in this process, be ahead of Scopegate, or behind it."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr("jwt.api_jwt.datetime", Shifted)
