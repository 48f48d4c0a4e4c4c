"""The Authorization header as clients write it: white space, and names with `+` and `%`."""

import base64
from dataclasses import replace
from urllib.parse import quote_plus

import httpx2
import pytest
from pydantic import SecretStr

from app.access.grants import grant
from app.identity.account_writes import create_service
from app.identity.throttle import ACCOUNT_AND_ADDRESS
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.factories import OPERATOR, Someone, bearer
from tests.support.statements import statements_of

SPACED = [
    "{scheme} {token}",
    "{scheme}  {token}",
    "{scheme}     {token}",
    "{scheme} {token} ",
    "{scheme} {token}\t",
    "{scheme} {token} \t \t",
    " {scheme} {token}",
    "\t {scheme}   {token}  ",
]
NAMES = ["app+test", "a+b+c", "+", "100%", "50%25", "a%2Bb", "%zz", "%FF", "%", "x%20y", "plus%+"]
SCRAPER = "a-token-for-the-scraper-of-the-tests-only"


async def make_service(runtime: Runtime, name: str, *scopes: str) -> str:
    """Return the secret of a new service account."""
    async with runtime.work(OPERATOR) as work:
        user, secret = await create_service(work, username=name)
        for scope in scopes:
            await grant(work, user.id, scope)
    return secret.value


def basic(client_id: str, secret: str, written: str = "Basic {}") -> dict[str, str]:
    pair = f"{client_id}:{secret}".encode()
    return {"Authorization": written.format(base64.b64encode(pair).decode())}


async def token_by(client: httpx2.AsyncClient, headers: dict[str, str]) -> httpx2.Response:
    form = {"grant_type": "client_credentials"}
    return await client.post("/token", data=form, headers=headers)


@pytest.mark.parametrize("spaced", SPACED)
async def test_white_space_around_a_bearer_token_is_no_part_of_it(
    client: httpx2.AsyncClient, runtime: Runtime, alice: Someone, spaced: str
) -> None:
    token = (await bearer(client, alice))["Authorization"].split()[1]
    for scheme in ("Bearer", "bearer", "BEARER"):
        given = [(b"Authorization", spaced.format(scheme=scheme, token=token).encode())]
        assert (await client.get("/users/me", headers=given)).status_code == 200
        answer = await client.post("/introspect", data={"token": "x"}, headers=given)
        assert answer.status_code == 403
    settings = runtime.settings.model_copy(update={"metrics_token": SecretStr(SCRAPER)})
    async with client_of(replace(runtime, settings=settings)) as scraper:
        given = [(b"Authorization", spaced.format(scheme="Bearer", token=SCRAPER).encode())]
        assert (await scraper.get("/metrics", headers=given)).status_code == 200


@pytest.mark.parametrize("between", ["\t", "\xa0", "", ",", "\x0b", "\x0c"])
async def test_only_spaces_stand_between_the_scheme_and_a_token(
    client: httpx2.AsyncClient, alice: Someone, between: str
) -> None:
    token = (await bearer(client, alice))["Authorization"].split()[1]
    for header in (f"Bearer{between}{token}", f"Bearer {token}{between}{token}"):
        given = [(b"Authorization", header.encode("latin-1"))]
        assert (await client.get("/users/me", headers=given)).status_code == 401


@pytest.mark.parametrize("written", ["Basic {}", "basic   {}", "BASIC {}  ", " Basic {}\t"])
async def test_white_space_around_basic_credentials_is_no_part_of_them(
    client: httpx2.AsyncClient, runtime: Runtime, written: str
) -> None:
    secret = await make_service(runtime, "worker", "introspect")
    headers = {k: v.encode() for k, v in basic("worker", secret, written).items()}
    sent = [(k.encode(), v) for k, v in headers.items()]
    form = {"grant_type": "client_credentials"}
    assert (await client.post("/token", data=form, headers=sent)).status_code == 200
    assert (await client.post("/introspect", data={"token": "x"}, headers=sent)).status_code == 200


@pytest.mark.parametrize("name", NAMES)
async def test_basic_is_read_form_encoded_and_as_curl_sends_it(
    client: httpx2.AsyncClient, runtime: Runtime, name: str
) -> None:
    secret = await make_service(runtime, name, "introspect")
    for written in (name, quote_plus(name)):
        headers = basic(written, secret)
        answer = await token_by(client, headers)
        assert answer.status_code == 200, (written, answer.text)
        for path in ("/introspect", "/revoke"):
            answer = await client.post(path, data={"token": "x"}, headers=headers)
            assert answer.status_code == 200
        same = {"grant_type": "client_credentials", "client_id": name}
        assert (await client.post("/token", data=same, headers=headers)).status_code == 200
        answer = await client.post("/token", data={**same, "client_id": "other"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert (await token_by(client, basic(written, secret + "x"))).status_code == 401


async def test_of_two_names_that_can_be_read_so_the_secret_tells_which(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    plus, escaped = [await make_service(runtime, name) for name in ("a+b", "a%2Bb")]
    for secret, client_id in ((plus, "a+b"), (escaped, "a%2Bb")):
        answer = await token_by(client, basic("a%2Bb", secret))
        assert answer.status_code == 200
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/users/me", headers=headers)).json()["username"] == client_id
    assert (await token_by(client, basic("a+b", escaped))).status_code == 401


async def test_a_wrong_secret_is_charged_and_audited_once_however_it_can_be_read(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await make_service(runtime, "app+test")
    for _ in range(ACCOUNT_AND_ADDRESS.burst):
        assert (await token_by(client, basic("app+test", "wrong"))).status_code == 401
    async with runtime.sessions() as db:
        failed = await told(db, "login.failed")
    assert len(failed) == ACCOUNT_AND_ADDRESS.burst
    assert {detail["reason"] for _, _, detail in failed} == {"wrong client secret"}
    assert (await token_by(client, basic("app+test", "wrong"))).status_code == 429


@pytest.mark.parametrize("name", ["app+test", "no+test", "a%2Bb", "x%2Bb"])
async def test_the_throttle_does_not_tell_whether_a_reading_names_a_client(
    client: httpx2.AsyncClient, runtime: Runtime, name: str
) -> None:
    """Failures under the raw name, in a form, do not count for the same name by HTTP Basic."""
    for known in ("app+test", "a%2Bb"):
        await make_service(runtime, known)
    form = {"grant_type": "client_credentials", "client_id": name, "client_secret": "wrong"}
    for _ in range(ACCOUNT_AND_ADDRESS.burst):
        assert (await client.post("/token", data=form)).status_code == 401
    assert (await client.post("/token", data=form)).status_code == 429
    assert (await token_by(client, basic(name, "wrong"))).status_code == 401


@pytest.mark.parametrize(
    ("known", "unknown"), [("app+test", "no+test"), ("app%2Btest", "no%2Btest"), ("a%2Bb", "x%2Bb")]
)
async def test_the_work_does_not_tell_whether_a_reading_names_a_client(
    client: httpx2.AsyncClient, runtime: Runtime, known: str, unknown: str
) -> None:
    for name in ("app+test", "a%2Bb"):
        await make_service(runtime, name)
    looks = []
    for name in (known, unknown):
        with statements_of(runtime) as statements:
            assert (await token_by(client, basic(name, "wrong"))).status_code == 401
        looks.append([each for each in statements if each.startswith(("SELECT user", "SELECT cl"))])
    assert looks[0] == looks[1]
