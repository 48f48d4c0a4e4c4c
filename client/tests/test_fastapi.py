"""FastAPI: what a service's own clients see, and what its OpenAPI says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Security

from client.tests.stand_in import CAEP, StandIn, until
from scopegate_client import Principal, Scopegate
from scopegate_client.fastapi import metadata_router, metadata_url


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with StandIn().serving() as serving:
        serving.complete_since = 0
        yield serving


def service(scopegate: Scopegate) -> FastAPI:
    """Return a service with two routes, as the README has it."""
    app = FastAPI(lifespan=scopegate.lifespan)
    router = APIRouter()

    @app.get("/orders")
    async def orders(
        principal: Annotated[Principal, Security(scopegate.principal, scopes=["read:orders"])],
    ) -> str:
        return principal.subject

    @router.post("/orders")
    async def order(
        principal: Annotated[
            Principal, Security(scopegate.principal, scopes=["write:orders", "read:orders"])
        ],
    ) -> str:
        return principal.subject

    @app.get("/")
    async def public() -> str:
        return "for all"

    app.include_router(router)
    return app


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of the app, whose lifespan runs."""
    transport = httpx2.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://orders") as client,
    ):
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_route_lets_in_who_holds_all_its_scopes(stand_in: StandIn) -> None:
    async with calling(service(stand_in.client())) as client:
        token = stand_in.token("write:orders read:orders")
        subject = stand_in.answers[token]["sub"]
        answer = await client.get("/orders", headers=bearer(token))
        assert (answer.status_code, answer.json()) == (200, subject)
        assert (await client.post("/orders", headers=bearer(token))).status_code == 200
        assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize("scope", ["", "write:orders", "admin", "read:orders2", "read"])
async def test_a_scope_that_is_missing_gets_403_and_the_scopes_that_are_needed(
    stand_in: StandIn, scope: str
) -> None:
    async with calling(service(stand_in.client())) as client:
        answer = await client.get("/orders", headers=bearer(stand_in.token(scope)))
    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope", scope="read:orders"'
    )


async def test_of_several_scopes_all_are_needed(stand_in: StandIn) -> None:
    async with calling(service(stand_in.client())) as client:
        answer = await client.post("/orders", headers=bearer(stand_in.token("read:orders")))
    assert answer.status_code == 403
    assert 'scope="write:orders read:orders"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("header", [None, "", "Basic eDp5", "Token x", "Bearerx"])
async def test_without_a_bearer_token_the_challenge_names_no_error(
    stand_in: StandIn, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with calling(service(stand_in.client())) as client:
        answer = await client.get("/orders", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    "header", ["Bearer x", "bearer a.b.c", "Bearer", "Bearer \xe9", "Bearer a b"]
)
async def test_a_bad_token_gets_401_invalid_token(stand_in: StandIn, header: str) -> None:
    async with calling(service(stand_in.client())) as client:
        answer = await client.get("/orders", headers=[(b"Authorization", header.encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_the_scheme_is_read_in_any_case_and_with_any_number_of_spaces(
    stand_in: StandIn,
) -> None:
    async with calling(service(stand_in.client())) as client:
        headers = {"Authorization": f"bEARER   {stand_in.token()}"}
        assert (await client.get("/orders", headers=headers)).status_code == 200


async def test_two_authorization_headers_are_an_invalid_request(stand_in: StandIn) -> None:
    async with calling(service(stand_in.client())) as client:
        good = ("Authorization", f"Bearer {stand_in.token()}")
        answer = await client.get("/orders", headers=[good, good])
    assert answer.status_code == 400
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]


async def test_while_nothing_can_be_judged_the_answer_is_503_and_never_a_pass(
    stand_in: StandIn,
) -> None:
    stand_in.statuses = {"/events": 503, "/introspect": 503}
    async with calling(service(stand_in.client())) as client:
        answer = await client.get("/orders", headers=bearer(stand_in.token()))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_revocation_counts_for_the_next_request(stand_in: StandIn) -> None:
    scopegate = stand_in.client()
    async with calling(service(scopegate)) as client:
        await until(lambda: scopegate.state.fresh)
        token = stand_in.token(iat=stand_in.second() - 5)
        assert (await client.get("/orders", headers=bearer(token))).status_code == 200
        stand_in.event(f"{CAEP}session-revoked", stand_in.user(token))
        await until(lambda: scopegate.state.events)
        assert (await client.get("/orders", headers=bearer(token))).status_code == 401
        assert stand_in.count("/introspect") == 0


async def test_openapi_lists_the_scopes_of_routes_and_where_swagger_signs_in(
    stand_in: StandIn,
) -> None:
    app, makers = service(stand_in.client()), set()
    for _ in range(2):
        async with calling(app) as client:
            makers.add(app.openapi)
            document = (await client.get("/openapi.json")).json()
            assert (await client.get("/docs")).status_code == 200
        assert document["components"]["securitySchemes"] == {
            "Scopegate": {
                "type": "oauth2",
                "flows": {
                    "password": {
                        "tokenUrl": f"{stand_in.issuer}/token",
                        "scopes": {"read:orders": "", "write:orders": ""},
                    }
                },
            }
        }
        paths = document["paths"]["/orders"]
        assert paths["get"]["security"] == [{"Scopegate": ["read:orders"]}]
        assert paths["post"]["security"] == [{"Scopegate": ["write:orders", "read:orders"]}]
        assert "security" not in document["paths"]["/"]["get"]
    assert len(makers) == 1, "a lifespan that begins again adds nothing"


async def test_an_app_without_protected_routes_has_no_scheme(stand_in: StandIn) -> None:
    scopegate = stand_in.client()
    app = FastAPI(lifespan=scopegate.lifespan)
    assert scopegate.principal is scopegate.principal
    async with calling(app) as client:
        assert "components" not in (await client.get("/openapi.json")).json()


async def test_challenges_name_the_metadata_of_the_resource_and_it_is_there(
    stand_in: StandIn,
) -> None:
    scopegate = stand_in.client(resource="http://orders/v1")
    app = service(scopegate)
    app.include_router(metadata_router(scopegate, "read:orders"))
    async with calling(app) as client:
        url = "http://orders/.well-known/oauth-protected-resource/v1"
        named = f'resource_metadata="{url}"'
        for headers, challenge in (
            ({}, f"Bearer {named}"),
            (bearer("x"), f'Bearer error="invalid_token", {named}'),
            (
                bearer(stand_in.token("")),
                f'Bearer error="insufficient_scope", scope="read:orders", {named}',
            ),
        ):
            answer = await client.get("/orders", headers=headers)
            assert answer.headers["www-authenticate"] == challenge
        assert (await client.get(url)).json() == {
            "resource": "http://orders/v1",
            "authorization_servers": [stand_in.issuer],
            "scopes_supported": ["read:orders"],
            "bearer_methods_supported": ["header"],
        }


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("https://a.example", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example/mcp", "https://a.example/.well-known/oauth-protected-resource/mcp"),
        (
            "https://a.example:8/x?y=1",
            "https://a.example:8/.well-known/oauth-protected-resource/x?y=1",
        ),
    ],
)
def test_the_metadata_is_where_rfc_9728_has_it(resource: str, url: str) -> None:
    assert metadata_url(resource) == url


def test_without_a_resource_there_is_no_metadata() -> None:
    scopegate = Scopegate("https://auth.example", client_id="orders", client_secret="s")
    with pytest.raises(ValueError, match="resource"):
        metadata_router(scopegate)


async def test_a_principal_is_found_once_a_request_however_often_it_is_asked_for(
    stand_in: StandIn,
) -> None:
    scopegate = stand_in.client()
    app = FastAPI(lifespan=scopegate.lifespan)
    anyone = Annotated[Principal, Security(scopegate.principal)]

    @app.get("/me")
    async def me(one: anyone, other: anyone) -> dict[str, Any]:
        return {"same": one is other, "scopes": sorted(one.scopes)}

    async with calling(app) as client:
        answer = await client.get("/me", headers=bearer(stand_in.opaque("a b")))
    assert answer.json() == {"same": True, "scopes": ["a", "b"]}
