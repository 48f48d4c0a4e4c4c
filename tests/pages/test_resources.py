"""Resources (RFC 8707): tokens that are for one service, with the scopes of that service alone."""

import jwt
import pytest

from app.access.registry import register_scope
from app.runtime import Runtime
from tests.support.browsing import Application, Form, PersonsBrowser, answered
from tests.support.factories import OPERATOR, PASSWORD, SignedIn, Someone, bearer, make_user

ORDERS, MAIL = "https://orders.example", "https://mail.example/api"
ASKED = "openid read:items read:orders write:orders read:mail"
pytestmark = pytest.mark.every_token_kind


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    async with runtime.work(OPERATOR) as work:
        for name in ("read:orders", "write:orders"):
            await register_scope(work, name, description="Orders", resource=ORDERS)
        await register_scope(work, "read:mail", description="Mail", resource=MAIL)
    return await make_user(runtime, "read:items", "read:orders", "write:orders", "read:mail")


async def let_in(
    browser: PersonsBrowser, app: Application, *resources: str, resource: str | None = None
) -> SignedIn:
    """Tokens of the app for what it asks of these resources, for the one named."""
    asked = {**app.asking(scope=ASKED), "resource": list(resources)}
    answer = await browser.client.get("/authorize", params=asked)
    if answer.status_code == 200:
        answer = await browser.decide(answer)
    code = answered(answer)["code"]
    redeemed = await app.redeem(browser.client, code, resource=resource)
    assert redeemed.status_code == 200, redeemed.text
    return SignedIn(browser.client, redeemed.json())


async def said(runtime: Runtime, tokens: SignedIn) -> tuple[str, set[str]]:
    """The audience and the scopes of an access token, as introspection tells them."""
    asker = await bearer(tokens.client, await make_user(runtime, "introspect"))
    answer = await tokens.client.post("/introspect", data={"token": tokens.token}, headers=asker)
    found = answer.json()
    assert found["active"] is True
    return found["aud"], set(found["scope"].split())


async def test_a_token_for_a_resource_names_it_and_has_its_scopes_alone(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await let_in(signed_in, app, ORDERS)
    assert tokens.tokens["scope"] == "openid read:orders write:orders"
    assert await said(runtime, tokens) == (ORDERS, {"openid", "read:orders", "write:orders"})
    assert "id_token" in tokens.tokens
    if runtime.issuer.opaque:
        return
    claims = jwt.decode(tokens.token, options={"verify_signature": False})
    assert claims["aud"] == ORDERS


async def test_without_a_resource_tokens_are_as_before(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await let_in(signed_in, app)
    assert set(tokens.tokens["scope"].split()) == set(ASKED.split())
    assert (await said(runtime, tokens))[0] == runtime.issuer.jwt.audience
    assert (await signed_in.client.get("/items", headers=tokens.header)).status_code == 200


async def test_our_own_routes_refuse_a_token_for_another_service(
    signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await let_in(signed_in, app, ORDERS)
    for path in ("/users/me", "/items", "/userinfo", "/forward-auth", "/events"):
        answer = await signed_in.client.get(path, headers=tokens.header)
        assert answer.status_code == 401, path


async def test_of_several_resources_the_token_request_names_one(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await let_in(signed_in, app, ORDERS, MAIL, resource=MAIL)
    assert await said(runtime, tokens) == (MAIL, {"openid", "read:mail"})
    other = await app.refresh(signed_in.client, tokens.refresh_token, resource=ORDERS)
    assert other.json()["scope"] == "openid read:orders write:orders"
    token = other.json()["refresh_token"]
    none = await app.refresh(signed_in.client, token)
    assert (none.status_code, none.json()["error"]) == (400, "invalid_target")
    strange = await app.refresh(signed_in.client, token, resource="https://evil.example")
    assert (strange.status_code, strange.json()["error"]) == (400, "invalid_target")
    assert (await app.refresh(signed_in.client, token, resource=MAIL)).status_code == 200


async def test_a_resource_is_never_added_after_the_person_has_agreed(
    signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await let_in(signed_in, app)
    answer = await app.refresh(signed_in.client, tokens.refresh_token, resource=ORDERS)
    assert answer.json()["error"] == "invalid_target"
    tokens = await let_in(signed_in, app, ORDERS)
    answer = await app.refresh(signed_in.client, tokens.refresh_token, resource=MAIL)
    assert answer.json()["error"] == "invalid_target"


async def test_a_wrong_resource_leaves_the_code_good(
    signed_in: PersonsBrowser, app: Application
) -> None:
    asked = {**app.asking(scope=ASKED), "resource": [ORDERS]}
    page = await signed_in.client.get("/authorize", params=asked)
    code = answered(await signed_in.decide(page))["code"]
    wrong = await app.redeem(signed_in.client, code, resource=MAIL)
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_target")
    assert (await app.redeem(signed_in.client, code, resource=ORDERS)).status_code == 200


@pytest.mark.parametrize(
    "resource", ["https://unknown.example", "not a uri", ORDERS + "/", ORDERS + "#x", "\0"]
)
async def test_an_unknown_resource_is_an_invalid_target(
    signed_in: PersonsBrowser, app: Application, resource: str
) -> None:
    answer = await signed_in.authorize(app, scope=ASKED, resource=resource)
    assert answered(answer)["error"] == "invalid_target"


async def test_the_consent_page_shows_the_scopes_of_the_resource_alone(
    signed_in: PersonsBrowser, app: Application
) -> None:
    page = await signed_in.authorize(app, scope=ASKED, resource=ORDERS)
    assert Form(page.text).scopes == ["read:orders", "write:orders"]


async def test_a_revoked_grant_stops_a_token_for_a_resource(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens = await let_in(signed_in, app, ORDERS)
    admin = await bearer(signed_in.client, await make_user(runtime, "admin"))
    await signed_in.client.delete(f"/users/{alice.id}/grants/write:orders", headers=admin)
    assert await said(runtime, tokens) == (ORDERS, {"openid", "read:orders"})


async def test_a_scopes_resource_is_set_and_shown_by_the_api(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    admin = await bearer(signed_in.client, await make_user(runtime, "admin"))
    body = {"description": "Read bills", "resource": "urn:example:bills"}
    answer = await signed_in.client.put("/scopes/read:bills", json=body, headers=admin)
    assert answer.json()["resource"] == "urn:example:bills"
    answer = await signed_in.client.put(
        "/scopes/read:bills", json={"description": "Read bills"}, headers=admin
    )
    assert answer.json()["resource"] is None
    for unfit in ("bills", "https://x.example/#part", "https://x.example/ y", ""):
        body = {"description": "Read bills", "resource": unfit}
        answer = await signed_in.client.put("/scopes/read:bills", json=body, headers=admin)
        assert answer.status_code == 422, unfit


async def test_by_other_grants_a_resource_is_ignored(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    answer = await signed_in.client.post(
        "/token",
        data={"username": alice.username, "password": PASSWORD, "resource": ORDERS},
    )
    tokens = SignedIn(signed_in.client, answer.json())
    assert (await said(runtime, tokens))[0] == runtime.issuer.jwt.audience
