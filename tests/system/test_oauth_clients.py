"""OAuth clients from PyPI, unmodified, against a service that serves."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import httpx2
import jwt as pyjwt
import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from httpx_auth import (
    InvalidGrantRequest,
    OAuth2ClientCredentials,
    OAuth2ResourceOwnerPasswordCredentials,
)
from joserfc import jwt
from joserfc.jwk import KeySet
from jwt import PyJWKClient, PyJWKClientError
from oauthlib.oauth2 import BackendApplicationClient, LegacyApplicationClient  # type: ignore[import-untyped]
from requests_oauthlib import OAuth2Session as RequestsOAuth2Session

from app.access.grants import grant
from app.identity.account_writes import create_service
from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support import databases
from tests.support.factories import OPERATOR, PASSWORD, Someone, make_user
from tests.support.processes import serving

CLIENT = "a-public-client"
SERVICE = "a-service"


@dataclass(frozen=True)
class Served:
    """A service that serves, a user who may read items there and no more, and a service account."""

    url: str
    reader: Someone
    secret: str

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def items_url(self) -> str:
        return f"{self.url}/items"

    @property
    def login(self) -> dict[str, str]:
        return {"username": self.reader.username, "password": PASSWORD}


@pytest.fixture(scope="module")
async def served(server_url: str, template: None) -> AsyncIterator[Served]:
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    async with Runtime.open(settings_for(url)) as runtime:
        reader = await make_user(runtime, "read:items")
        async with runtime.work(OPERATOR) as work:
            account, secret = await create_service(work, username=SERVICE)
            for scope in ("introspect", "read:items"):
                await grant(work, account.id, scope)
    with serving(database_url=url, secret_keys=SECRET) as service:
        yield Served(service.url, reader, secret.value)
    await databases.drop(server_url, name)


async def test_authlib_with_httpx_gets_uses_and_refreshes_a_token(served: Served) -> None:
    async with AsyncOAuth2Client(CLIENT, scope="read:items") as client:
        token = await client.fetch_token(served.token_url, grant_type="password", **served.login)
        assert token["scope"] == "read:items"
        assert (await client.get(served.items_url)).status_code == 200
        refreshed = await client.refresh_token(served.token_url)
        assert refreshed["access_token"] != token["access_token"]
        assert (await client.get(served.items_url)).status_code == 200


def test_authlib_with_requests_gets_uses_and_refreshes_a_token(served: Served) -> None:
    with OAuth2Session(CLIENT, scope="read:items") as client:
        token = client.fetch_token(served.token_url, grant_type="password", **served.login)
        assert token["scope"] == "read:items"
        assert client.get(served.items_url).status_code == 200
        refreshed = client.refresh_token(served.token_url)
        assert refreshed["access_token"] != token["access_token"]
        assert client.get(served.items_url).status_code == 200


def test_requests_oauthlib_gets_uses_and_refreshes_a_token(
    served: Served, plain_http: pytest.MonkeyPatch
) -> None:
    client = LegacyApplicationClient(CLIENT, scope="read:items")
    with RequestsOAuth2Session(client=client) as session:
        token = session.fetch_token(served.token_url, **served.login)
        assert token.scope == "read:items"
        assert session.get(served.items_url).status_code == 200
        refreshed = session.refresh_token(served.token_url)
        assert refreshed["access_token"] != token["access_token"]
        assert session.get(served.items_url).status_code == 200


def test_requests_oauthlib_notices_that_less_is_issued_than_it_asked_for(
    served: Served, plain_http: pytest.MonkeyPatch
) -> None:
    client = LegacyApplicationClient(CLIENT, scope="read:items write:items")
    with RequestsOAuth2Session(client=client) as session:
        with pytest.raises(Warning, match="Scope has changed"):
            session.fetch_token(served.token_url, **served.login)
        plain_http.setenv("OAUTHLIB_RELAX_TOKEN_SCOPE", "1")
        token = session.fetch_token(served.token_url, **served.login)
        assert token.scope_changed
        assert token.scopes == ["read:items"]
        assert session.get(served.items_url).status_code == 200
        assert session.post(served.items_url, json={"title": "Lamp"}).status_code == 403


async def test_authlib_refreshes_an_expired_token_by_itself(served: Served) -> None:
    updates: list[str] = []

    async def update_token(token: dict[str, str], **_: str) -> None:
        updates.append(token["refresh_token"])

    async with AsyncOAuth2Client(
        CLIENT, token_endpoint=served.token_url, update_token=update_token
    ) as client:
        await client.fetch_token(served.token_url, grant_type="password", **served.login)
        client.token["expires_at"] = 1
        assert (await client.get(served.items_url)).status_code == 200
        assert updates == [client.token["refresh_token"]]


async def test_authlib_introspects_and_revokes(served: Served) -> None:
    introspect, revoke = f"{served.url}/introspect", f"{served.url}/revoke"
    async with (
        AsyncOAuth2Client(SERVICE, served.secret) as service,
        AsyncOAuth2Client(CLIENT) as client,
    ):
        token = await client.fetch_token(served.token_url, grant_type="password", **served.login)
        active = await service.introspect_token(introspect, token=token["access_token"])
        assert (active.json()["active"], active.json()["scope"]) == (True, "read:items")
        revoked = await client.revoke_token(revoke, token=token["refresh_token"])
        assert revoked.status_code == 200
        for each in ("access_token", "refresh_token"):
            answer = await service.introspect_token(introspect, token=token[each])
            assert answer.json() == {"active": False}


def test_requests_oauthlib_signs_a_service_in(
    served: Served, plain_http: pytest.MonkeyPatch
) -> None:
    client = BackendApplicationClient(SERVICE, scope="read:items")
    with RequestsOAuth2Session(client=client) as session:
        token = session.fetch_token(served.token_url, client_secret=served.secret)
        assert token.scope == "read:items"
        assert "refresh_token" not in token
        assert session.get(served.items_url).status_code == 200


def test_joserfc_verifies_a_token_by_the_keys_that_are_published(served: Served) -> None:
    answer = httpx2.post(served.token_url, data={"grant_type": "password", **served.login})
    keys = KeySet.import_key_set(httpx2.get(f"{served.url}/.well-known/jwks.json").json())
    token = jwt.decode(answer.json()["access_token"], keys, algorithms=["ES256"])
    assert token.header["typ"] == "at+jwt"
    claims = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": served.url},
        aud={"essential": True, "value": served.url},
        sub={"essential": True, "value": str(served.reader.id)},
        exp={"essential": True},
    )
    claims.validate(token.claims)
    assert token.claims["scope"] == "read:items"


@pytest.mark.parametrize("document", ["oauth-authorization-server", "openid-configuration"])
async def test_authlib_validates_the_metadata_and_signs_in_by_it(
    served: Served, plain_http: pytest.MonkeyPatch, document: str
) -> None:
    plain_http.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    found = httpx2.get(get_well_known_url(served.url, external=True, suffix=document)).json()
    metadata = AuthorizationServerMetadata(found)
    metadata.validate()
    assert metadata.issuer == served.url
    async with AsyncOAuth2Client(CLIENT, scope="read:items") as client:
        token = await client.fetch_token(
            metadata.token_endpoint, grant_type="password", **served.login
        )
        assert token["scope"] == "read:items"


def test_httpx_auth_signs_in_and_refreshes_by_itself(served: Served) -> None:
    login = served.login | {"scope": "read:items"}
    # It takes every token for one that expires at once, so each request refreshes.
    for early in (0.0, 3600.0):
        auth = OAuth2ResourceOwnerPasswordCredentials(served.token_url, **login, early_expiry=early)
        with httpx.Client(auth=auth) as client:
            for _ in range(3):
                assert client.get(served.items_url).status_code == 200
            assert client.post(served.items_url, json={"title": "Lamp"}).status_code == 403


def test_httpx_auth_signs_a_service_in_and_reads_a_refusal(served: Served) -> None:
    right = OAuth2ClientCredentials(served.token_url, SERVICE, served.secret, scope="read:items")
    assert httpx.get(served.items_url, auth=right).status_code == 200
    wrong = OAuth2ClientCredentials(served.token_url, SERVICE, "wrong")
    with pytest.raises(InvalidGrantRequest, match="invalid_client"):
        httpx.get(served.items_url, auth=wrong)


@pytest.mark.parametrize("document", ["oauth-authorization-server", "openid-configuration"])
def test_pyjwk_client_finds_the_key_and_the_algorithm_by_discovery(
    served: Served, document: str
) -> None:
    metadata = httpx2.get(f"{served.url}/.well-known/{document}").json()
    answer = httpx2.post(served.token_url, data={"grant_type": "password", **served.login}).json()
    keys = PyJWKClient(metadata["jwks_uri"])
    key = keys.get_signing_key_from_jwt(answer["access_token"])
    claims = pyjwt.decode(
        answer["access_token"],
        key,
        algorithms=metadata["id_token_signing_alg_values_supported"],
        issuer=metadata["issuer"],
        audience=served.url,
    )
    assert claims["sub"] == str(served.reader.id)
    with pytest.raises(PyJWKClientError):
        keys.get_signing_key("no-such-key")
