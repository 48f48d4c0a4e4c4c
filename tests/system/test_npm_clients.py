"""Clients from npm, unmodified, against a service that serves: the promise "works with yours"."""

import json
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.browsing import CALLBACK, PersonsBrowser
from tests.support.clients import (
    AFTER_LOGOUT,
    PERSON,
    PERSON_SCOPES,
    SERVICE,
    SERVICE_SCOPES,
    Known,
    cant_run,
    known,
    need,
    run,
)
from tests.support.factories import Someone
from tests.support.processes import serving
from tests.support.proxies import below_a_path

pytestmark = pytest.mark.npm
CLIENTS = Path(__file__).parent / "npm"
METHODS = ("client_secret_basic", "client_secret_post")


@dataclass(frozen=True)
class Served:
    """A service that serves, with a person and a service account, and scripts that call it."""

    issuer: str
    person_id: str
    service_id: str
    service_secret: str
    scripts: Path

    async def oauth4webapi(self, story: str, **given: Any) -> Any:
        """What a story in oauth4webapi.mjs came to."""
        return await self._node("oauth4webapi.mjs", story, self.issuer, given=given)

    async def openid_client(self, story: str, **given: Any) -> Any:
        """What a story in openid-client.mjs came to."""
        return await self._node("openid-client.mjs", story, self.issuer, given=given)

    async def jose(self, *tokens: str) -> Any:
        """The verified headers and claims of these tokens."""
        return await self._node("jose.mjs", self.issuer, given=tokens)

    def service(self, method: str) -> dict[str, str]:
        """What a client needs that authenticates in this way."""
        return {"clientId": SERVICE, "secret": self.service_secret, "method": method}

    async def _node(self, script: str, *arguments: str, given: Any) -> Any:
        code, out, err = await run("node", script, *arguments, given=given, cwd=self.scripts)
        assert code == 0, err
        return json.loads(out)


@pytest.fixture(scope="module")
async def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts, with the locked packages installed beside them; never in the checkout."""
    need("node", "npm")
    copy = tmp_path_factory.mktemp("npm") / "clients"
    shutil.copytree(CLIENTS, copy, ignore=shutil.ignore_patterns("node_modules"))
    code, _, err = await run("npm", "ci", "--loglevel=error", cwd=copy)
    if code != 0:
        cant_run(f"npm ci failed: {err}")
    return copy


@pytest.fixture(scope="module")
async def people(server_url: str, template: None) -> AsyncIterator[Known]:
    async with known(server_url) as found:
        yield found


@pytest.fixture(scope="module")
async def served(scripts: Path, people: Known) -> AsyncIterator[Served]:
    with serving(**people.settings) as process:
        yield served_at(process.url, people, scripts)


@pytest.fixture(scope="module", params=["", "/auth", "/a/b"])
async def behind_nginx(
    scripts: Path,
    people: Known,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Served]:
    """The service behind nginx, which strips the path of the issuer."""
    need("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    with below_a_path(request.param, folder, **people.settings) as issuer:
        yield served_at(issuer, people, scripts)


def served_at(issuer: str, people: Known, scripts: Path) -> Served:
    return Served(issuer, people.person_id, people.service_id, people.service_secret, scripts)


async def test_discovery_finds_the_service_and_trusts_its_issuer(served: Served) -> None:
    found = await served.oauth4webapi("discovery")
    assert found["issuer"] == served.issuer
    assert set(found["token_endpoint_auth_methods_supported"]) == {*METHODS, "none"}


@pytest.mark.parametrize("method", METHODS)
async def test_a_service_account_gets_a_token_by_its_secret(served: Served, method: str) -> None:
    came = await served.oauth4webapi("clientCredentials", service=served.service(method))
    assert set(came["token"]["scope"].split()) == SERVICE_SCOPES
    assert came["token"]["token_type"] == "bearer"
    assert came["token"]["expires_in"] > 0
    assert "refresh_token" not in came["token"]
    assert came["claims"]["sub"] == served.service_id
    assert came["claims"]["client_id"] == SERVICE


@pytest.mark.parametrize("method", METHODS)
async def test_a_wrong_secret_is_a_refusal_that_the_client_can_read(
    served: Served, method: str
) -> None:
    wrong = {**served.service(method), "secret": "wrong"}
    refusal = (await served.oauth4webapi("refusedClient", service=wrong))["refusal"]
    assert refusal["status"] == 401
    assert [challenge["scheme"] for challenge in refusal["challenges"]] == ["basic"]


async def test_a_public_client_refreshes_narrows_and_widens_again(served: Served) -> None:
    came = await served.oauth4webapi("refreshing", person=PERSON)
    login, narrowed, full = came["tokens"]
    assert set(login["scope"].split()) == PERSON_SCOPES
    assert narrowed["scope"] == "read:items"
    assert set(full["scope"].split()) == PERSON_SCOPES
    assert len({each["refresh_token"] for each in came["tokens"]}) == 3
    assert [each["scope"] for each in came["claims"]] == [each["scope"] for each in came["tokens"]]
    assert {each["sub"] for each in came["claims"]} == {served.person_id}
    assert len({each["sid"] for each in came["claims"]}) == 1


@pytest.mark.parametrize("method", METHODS)
async def test_a_revoked_session_is_inactive_for_whoever_introspects_it(
    served: Served, method: str
) -> None:
    came = await served.oauth4webapi("revocation", person=PERSON, service=served.service(method))
    for token in came["before"]:
        assert token["active"] is True
        assert token["sub"] == served.person_id
        assert token["username"] == PERSON["username"]
        assert token["scope"] == "read:items"
        assert token["iss"] == served.issuer
    assert came["after"] == [{"active": False}, {"active": False}]


async def test_tokens_of_a_revoked_session_are_refusals_that_the_client_can_read(
    served: Served,
) -> None:
    came = await served.oauth4webapi(
        "revocation", person=PERSON, service=served.service("client_secret_basic")
    )
    assert came["refreshed"] == {"status": 400, "error": "invalid_grant"}
    assert came["called"]["status"] == 401
    (challenge,) = came["called"]["challenges"]
    assert challenge["scheme"] == "bearer"
    assert challenge["parameters"]["error"] == "invalid_token"


async def test_a_protected_route_tells_the_client_which_scope_it_lacks(served: Served) -> None:
    came = await served.oauth4webapi("calling", person=PERSON)
    assert came["me"]["username"] == PERSON["username"]
    assert came["writing"]["status"] == 403
    (challenge,) = came["writing"]["challenges"]
    assert challenge["scheme"] == "bearer"
    assert challenge["parameters"]["error"] == "insufficient_scope"
    assert challenge["parameters"]["scope"] == "write:items"


async def test_jose_verifies_every_kind_of_access_token_by_the_published_keys(
    served: Served,
) -> None:
    logins = await served.oauth4webapi("refreshing", person=PERSON)
    service = await served.oauth4webapi(
        "clientCredentials", service=served.service("client_secret_basic")
    )
    issued = [*logins["tokens"], service["token"]]
    verified = await served.jose(*(each["access_token"] for each in issued))
    assert [each["claims"]["scope"] for each in verified] == [each["scope"] for each in issued]
    assert [each["claims"]["sub"] for each in verified] == [
        *[served.person_id] * len(logins["tokens"]),
        served.service_id,
    ]
    assert {each["header"]["typ"] for each in verified} == {"at+jwt"}


async def test_openid_client_signs_in_as_everybody_in_every_way(served: Served) -> None:
    for method in METHODS:
        came = await served.openid_client(
            "everything", person=PERSON, service=served.service(method)
        )
        assert_openid_client_saw(came, served)


async def lead_back(served: Served, url: str) -> str:
    """Where the person's browser is led to from here: they sign in, and let the app in."""
    async with httpx2.AsyncClient(base_url=served.issuer) as client:
        browser = PersonsBrowser(client)
        await browser.sign_in(Someone(uuid.UUID(served.person_id), PERSON["username"]))
        answer = await client.get(url)
        if answer.status_code == 200:
            answer = await browser.decide(answer)
        return str(answer.headers["location"])


async def test_openid_client_signs_a_person_in_verifies_the_id_token_and_signs_out(
    served: Served,
) -> None:
    asked = {"redirectUri": CALLBACK, "scope": "openid profile read:items"}
    begun = await served.openid_client("beginSignIn", **asked)
    back = await lead_back(served, begun["url"])
    came = await served.openid_client(
        "finishSignIn", back=back, remembered=begun["remembered"], after=AFTER_LOGOUT
    )
    assert came["scope"] == asked["scope"]
    assert came["claims"]["sub"] == came["userinfo"]["sub"] == served.person_id
    assert came["userinfo"]["preferred_username"] == PERSON["username"]
    async with httpx2.AsyncClient() as client:
        answer = await client.get(came["logout"])
    assert answer.headers["location"] == f"{AFTER_LOGOUT}?state=done"


async def test_oauth4webapi_signs_a_person_in_and_verifies_the_id_token(served: Served) -> None:
    asked = {"redirectUri": CALLBACK, "scope": "openid read:items"}
    begun = await served.oauth4webapi("beginSignIn", **asked)
    back = await lead_back(served, begun["url"])
    came = await served.oauth4webapi(
        "finishSignIn", back=back, redirectUri=CALLBACK, remembered=begun["remembered"]
    )
    assert came["scope"] == asked["scope"]
    assert came["claims"]["sub"] == came["userinfo"]["sub"] == served.person_id
    assert came["claims"]["amr"] == ["pwd"]


async def test_openid_client_reads_a_refusal(served: Served) -> None:
    wrong = {**served.service("client_secret_basic"), "secret": "wrong"}
    refusal = await served.openid_client("refusal", service=wrong)
    assert refusal == {"status": 401, "schemes": ["basic"]}


async def test_behind_nginx_with_and_without_a_path_clients_find_the_service_and_sign_in(
    behind_nginx: Served,
) -> None:
    found = await behind_nginx.oauth4webapi("discovery")
    assert found["issuer"] == behind_nginx.issuer
    service = behind_nginx.service("client_secret_basic")
    came = await behind_nginx.openid_client("everything", person=PERSON, service=service)
    assert_openid_client_saw(came, behind_nginx)
    verified = await behind_nginx.jose(came["login"]["access_token"])
    assert [each["claims"]["iss"] for each in verified] == [behind_nginx.issuer]
    called = await behind_nginx.oauth4webapi("calling", person=PERSON)
    assert called["writing"]["challenges"][0]["parameters"]["error"] == "insufficient_scope"


def assert_openid_client_saw(came: Any, served: Served) -> None:
    assert came["found"] == {"oauth2": served.issuer, "oidc": served.issuer}
    assert came["login"]["scope"] == "read:items"
    assert came["refreshed"]["refresh_token"] != came["login"]["refresh_token"]
    assert set(came["service"]["scope"].split()) == SERVICE_SCOPES
    assert came["before"]["active"] is True
    assert came["before"]["username"] == PERSON["username"]
    assert came["me"]["username"] == PERSON["username"]
    assert came["after"] == {"active": False}
