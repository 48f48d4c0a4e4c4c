"""Discovery: the metadata wherever clients look for it, also for an issuer with a path."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from fastapi import FastAPI

from app.main import create_app
from app.runtime import Runtime
from app.settings import Algorithm
from tests.conftest import client_of, settings_for
from tests.support.factories import login, make_user

WELL_KNOWN = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
PATHS = ["/auth", "/a/b", "/realms/main.v2", "/~tenant:1@x"]


@asynccontextmanager
async def at(runtime: Runtime, issuer: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a service with this issuer."""
    settings = runtime.settings.model_copy(update={"issuer": issuer})
    jwt = replace(runtime.issuer.jwt, issuer=settings.token_issuer)
    other = replace(runtime, settings=settings, issuer=replace(runtime.issuer, jwt=jwt))
    async with client_of(other) as client:
        yield client


async def test_both_well_known_paths_have_the_same_document(client: httpx2.AsyncClient) -> None:
    found = [await client.get(path) for path in (WELL_KNOWN, OPENID)]
    assert [answer.status_code for answer in found] == [200, 200]
    assert found[0].json() == found[1].json()
    assert found[0].json()["subject_types_supported"] == ["public"]


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA", "HS256"])
async def test_the_document_names_the_algorithm_of_tokens(
    own_database_url: str, algorithm: Algorithm
) -> None:
    settings = settings_for(own_database_url, signing_algorithm=algorithm)
    async with Runtime.open(settings) as runtime, client_of(runtime) as client:
        metadata = (await client.get(OPENID)).json()
    assert metadata["id_token_signing_alg_values_supported"] == [algorithm]


async def test_while_the_algorithm_changes_the_document_names_both(own_database_url: str) -> None:
    for algorithm in ("ES256", "RS256"):
        settings = settings_for(own_database_url, signing_algorithm=algorithm)
        async with Runtime.open(settings) as runtime, client_of(runtime) as client:
            await runtime.adopt_signing_algorithm()
            metadata = (await client.get(OPENID)).json()
    assert metadata["id_token_signing_alg_values_supported"] == ["RS256", "ES256"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("well_known", [WELL_KNOWN, OPENID])
async def test_an_issuer_with_a_path_is_found_with_the_path_inserted(
    runtime: Runtime, well_known: str, path: str
) -> None:
    issuer = f"https://example.com{path}"
    async with at(runtime, issuer) as client:
        inserted = await client.get(f"{well_known}{path}")
        assert inserted.status_code == 200
        assert inserted.json() == (await client.get(well_known)).json()
        assert inserted.json()["issuer"] == issuer
        assert inserted.json()["token_endpoint"] == f"{issuer}/token"
        for wrong in ("/", "/other", f"{path}/", f"{path}/more", path[:-1], path.upper()):
            assert (await client.get(f"{well_known}{wrong}")).status_code == 404


@pytest.mark.parametrize("wrong", ["/", "/auth", "//", "/-"])
async def test_an_issuer_without_a_path_is_found_at_no_other(
    client: httpx2.AsyncClient, wrong: str
) -> None:
    for well_known in (WELL_KNOWN, OPENID):
        assert (await client.get(f"{well_known}{wrong}")).status_code == 404


@pytest.mark.parametrize("path", ["", *PATHS])
async def test_the_metadata_passes_authlib_s_validation(runtime: Runtime, path: str) -> None:
    async with at(runtime, f"https://example.com{path}") as client:
        metadata = AuthorizationServerMetadata((await client.get(WELL_KNOWN)).json())
    metadata.validate()
    assert metadata["response_types_supported"] == ["code"]
    assert metadata["authorization_endpoint"] == f"https://example.com{path}/authorize"


@pytest.mark.parametrize("path", PATHS)
async def test_openapi_names_the_issuer_s_path_as_the_server(runtime: Runtime, path: str) -> None:
    async with at(runtime, f"https://example.com{path}") as client:
        assert (await client.get("/openapi.json")).json()["servers"] == [{"url": path}]


async def test_openapi_names_no_server_for_an_issuer_without_a_path(
    client: httpx2.AsyncClient,
) -> None:
    assert "servers" not in (await client.get("/openapi.json")).json()


@pytest.mark.parametrize("root", ["/auth", "/a/b", "/token"])
async def test_below_a_root_path_errors_have_the_form_of_their_route(
    runtime: Runtime, root: str
) -> None:
    inner = create_app(runtime.settings)
    inner.state.runtime = runtime
    outer = FastAPI()
    outer.mount(root, inner)
    transport = httpx2.ASGITransport(app=outer, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        for path in ("/token", "/revoke", "/introspect"):
            for answer in (
                await client.post(f"{root}{path}", data={"x": "y"}),
                await client.delete(f"{root}{path}"),
            ):
                assert answer.json().keys() == {"error", "error_description"}
                assert answer.headers["cache-control"] == "no-store"
        assert (await client.get(f"{root}/items")).json().keys() == {"detail"}
        page = (await client.get(f"{root}/docs")).text
        assert f'"{root}' not in page
        client.base_url = httpx2.URL(f"http://test{root}")
        assert (await login(client, await make_user(runtime))).status_code == 200
