"""OpenID Connect: ID tokens, /userinfo, and the scopes that are no grants."""

import base64
import hashlib
import json
from typing import Any

import httpx2
import jwt
import pytest

from app.identity.address_writes import set_verified_address
from app.mail.addresses import parse_address
from app.runtime import Runtime
from app.tokens.keys import LastSigningKey, retire_key
from app.tokens.models import ID_TOKENS
from tests.support.browsing import Application, Form, PersonsBrowser, answered, register
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, make_user
from tests.support.keys import rotate

ISSUER = "http://127.0.0.1:8000"


async def verified(client: httpx2.AsyncClient, token: str, audience: str) -> dict[str, Any]:
    """What an ID token says, verified as an application does: by what is published."""
    about = (await client.get("/.well-known/openid-configuration")).json()
    keys = (await client.get("/.well-known/jwks.json")).json()
    (key,) = (
        each
        for each in jwt.PyJWKSet.from_dict(keys).keys
        if each.key_id == jwt.get_unverified_header(token)["kid"]
    )
    assert key.algorithm_name in about["id_token_signing_alg_values_supported"]
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=audience,
        issuer=about["issuer"],
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims


async def test_an_id_token_says_who_signed_in_when_and_how(
    signed_in: PersonsBrowser, app: Application, alice: Someone, clock: MovableClock
) -> None:
    after_sign_in = clock().timestamp()
    clock.move(minutes=5)
    tokens = await signed_in.let_in(app, scope="openid read:items", nonce="n-0S6")
    id_token = tokens.tokens["id_token"]
    claims = await verified(signed_in.client, id_token, app.client_id)
    access = jwt.decode(tokens.token, options={"verify_signature": False})
    half = hashlib.sha256(tokens.token.encode()).digest()[:16]
    assert after_sign_in - 60 < claims.pop("auth_time") <= after_sign_in, "not five minutes later"
    assert claims == {
        "iss": ISSUER,
        "sub": str(alice.id),
        "aud": "app",
        "azp": "app",
        "iat": access["iat"],
        "exp": access["exp"],
        "acr": "1",
        "amr": ["pwd"],
        "sid": access["sid"],
        "at_hash": base64.urlsafe_b64encode(half).decode().rstrip("="),
        "nonce": "n-0S6",
    }
    header = jwt.get_unverified_header(id_token)
    assert (header["typ"], header["alg"]) == ("JWT", "RS256")


async def test_without_openid_there_is_no_id_token_and_without_a_nonce_no_nonce(
    signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app, scope="read:items", nonce="n")
    assert "id_token" not in tokens.tokens
    tokens = await signed_in.let_in(app, scope="openid")
    assert "nonce" not in await verified(signed_in.client, tokens.tokens["id_token"], "app")


async def test_an_id_token_is_no_access_token(signed_in: PersonsBrowser, app: Application) -> None:
    tokens = await signed_in.let_in(app, scope="openid profile read:items")
    header = {"Authorization": f"Bearer {tokens.tokens['id_token']}"}
    for path in ("/users/me", "/userinfo", "/items"):
        assert (await signed_in.client.get(path, headers=header)).status_code == 401
    form = {"token": tokens.tokens["id_token"]}
    operator = {"Authorization": f"Bearer {tokens.token}"}
    answer = await signed_in.client.post("/introspect", data=form, headers=operator)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("scope", "said"), [("openid", {"sub"}), ("openid profile", {"sub", "preferred_username"})]
)
async def test_userinfo_says_what_the_scopes_let_it(
    signed_in: PersonsBrowser, app: Application, alice: Someone, scope: str, said: set[str]
) -> None:
    tokens = await signed_in.let_in(app, scope=scope)
    for method in ("GET", "POST"):
        answer = await signed_in.client.request(method, "/userinfo", headers=tokens.header)
        assert answer.status_code == 200
        assert answer.json().keys() == said
        assert answer.json()["sub"] == str(alice.id)
        assert answer.json().get("preferred_username", alice.username) == alice.username


async def test_userinfo_tells_the_address_where_the_person_lets_it(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens = await signed_in.let_in(app, scope="openid email")
    assert (await signed_in.client.get("/userinfo", headers=tokens.header)).json().keys() == {"sub"}
    async with runtime.work(OPERATOR) as work:
        await set_verified_address(
            work, alice.id, parse_address("Alice@example.com"), chosen_by=None
        )
    said = (await signed_in.client.get("/userinfo", headers=tokens.header)).json()
    assert (said["email"], said["email_verified"]) == ("Alice@example.com", True)
    me = (await signed_in.client.get("/users/me", headers=tokens.header)).json()
    assert me["email"] == "Alice@example.com"


async def test_userinfo_wants_openid_which_admin_does_not_imply(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    admin = await make_user(runtime, "admin")
    header = await bearer(browser.client, admin)
    answer = await browser.client.get("/userinfo", headers=header)
    assert answer.status_code == 403
    assert 'scope="openid"' in answer.headers["www-authenticate"]
    app = await register(runtime, scopes=["admin"])
    await browser.sign_in(admin)
    tokens = await browser.let_in(app, scope="admin")
    assert (await browser.client.get("/userinfo", headers=tokens.header)).status_code == 403
    more = await app.refresh(browser.client, tokens.refresh_token, scope="openid")
    assert (more.status_code, more.json()["error"]) == (400, "invalid_scope")


async def test_userinfo_ends_with_the_consent_and_pages_of_any_origin_may_ask(
    signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens = await signed_in.let_in(app, scope="openid")
    header = tokens.header | {"Origin": "https://app.example"}
    answer = await signed_in.client.get("/userinfo", headers=header)
    assert answer.headers["access-control-allow-origin"] == "*"
    own = await bearer(signed_in.client, alice)
    await signed_in.client.delete("/users/me/applications/app", headers=own)
    assert (await signed_in.client.get("/userinfo", headers=header)).status_code == 401


async def test_who_holds_nothing_signs_in_all_the_same(
    runtime: Runtime, browser: PersonsBrowser, app: Application
) -> None:
    """To know who somebody is needs no grant."""
    nobody = await make_user(runtime)
    await browser.sign_in(nobody)
    page = await browser.authorize(app, scope="openid read:items")
    assert "know who you are" in page.text
    assert Form(page.text).scopes == []
    code = answered(await browser.decide(page))["code"]
    tokens = await app.tokens(browser.client, code)
    assert tokens.tokens["scope"] == "openid"
    assert (await browser.client.get("/items", headers=tokens.header)).status_code == 403


async def test_a_ceiling_takes_no_scope_of_openid_connect_away(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    app = await register(runtime, "limited", scopes=["read:items"])
    tokens = await signed_in.let_in(app, scope="openid profile offline_access read:items")
    assert tokens.tokens["scope"] == "offline_access openid profile read:items"
    refreshed = (await app.refresh(signed_in.client, tokens.refresh_token)).json()
    assert refreshed["scope"] == tokens.tokens["scope"]
    assert "id_token" not in refreshed


async def test_the_consent_page_has_a_switch_for_the_name_but_none_for_signing_in(
    signed_in: PersonsBrowser, app: Application
) -> None:
    page = await signed_in.authorize(app, scope="openid profile read:items")
    assert Form(page.text).scopes == ["profile", "read:items"]
    code = answered(await signed_in.decide(page, scopes=["read:items"]))["code"]
    tokens = await app.tokens(signed_in.client, code)
    assert tokens.tokens["scope"] == "openid read:items"
    page = await signed_in.authorize(app, scope="openid profile", prompt="consent")
    assert answered(await signed_in.decide(page, scopes=[]))["error"] == "access_denied"


async def test_by_other_grants_the_scopes_of_openid_connect_mean_nothing(
    client: httpx2.AsyncClient, alice: Someone
) -> None:
    form = {"username": alice.username, "password": PASSWORD, "scope": "openid read:items"}
    answer = (await client.post("/token", data=form)).json()
    assert answer["scope"] == "read:items"
    assert "id_token" not in answer


@pytest.mark.parametrize("name", ["openid", "profile", "email", "offline_access"])
async def test_no_scope_of_openid_connect_can_be_registered(
    runtime: Runtime, client: httpx2.AsyncClient, name: str
) -> None:
    admin = await bearer(client, await make_user(runtime, "admin"))
    answer = await client.put(f"/scopes/{name}", json={"description": "Mine"}, headers=admin)
    assert answer.status_code == 422
    assert "OpenID Connect" in answer.text


async def test_a_client_chooses_what_its_id_tokens_are_signed_by(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    app = await register(runtime, "modern", id_token_signed_response_alg="ES256")
    tokens = await signed_in.let_in(app, scope="openid")
    id_token = tokens.tokens["id_token"]
    assert jwt.get_unverified_header(id_token)["alg"] == "ES256"
    await verified(signed_in.client, id_token, "modern")
    odd = await register(runtime, "odd", id_token_signed_response_alg="EdDSA")
    tokens = await signed_in.let_in(odd, scope="openid")
    assert jwt.get_unverified_header(tokens.tokens["id_token"])["alg"] == "RS256", "no such key"


async def test_the_key_of_id_tokens_is_rotated_apart_and_signs_no_access_token(
    own_runtime: Runtime,
) -> None:
    runtime = own_runtime
    await runtime.adopt_signing_algorithm()
    signed_in, app = PersonsBrowser.of(runtime), await register(runtime)
    await signed_in.sign_in(await make_user(runtime))
    first = await signed_in.let_in(app, scope="openid")
    made = await rotate(runtime, algorithm="RS256", purpose=ID_TOKENS, publication=0)
    await runtime.keyring.load()
    second = await signed_in.let_in(app, scope="openid")
    kids = [
        jwt.get_unverified_header(token)["kid"]
        for tokens in (first, second)
        for token in (tokens.tokens["id_token"], tokens.token)
    ]
    assert kids[2] == made.kid != kids[0]
    assert kids[1] == kids[3] != made.kid
    await verified(signed_in.client, first.tokens["id_token"], "app")
    async with runtime.work(OPERATOR) as work:
        await retire_key(work, kids[0])
        with pytest.raises(LastSigningKey):
            await retire_key(work, made.kid)
    await signed_in.client.aclose()


async def test_the_metadata_tells_what_there_is(client: httpx2.AsyncClient) -> None:
    about = (await client.get("/.well-known/openid-configuration")).json()
    assert about == (await client.get("/.well-known/oauth-authorization-server")).json()
    assert {"openid", "profile", "email", "offline_access"} <= set(about["scopes_supported"])
    assert "RS256" in about["id_token_signing_alg_values_supported"]
    assert about["response_modes_supported"] == ["query"]
    assert about["request_uri_parameter_supported"] is False
    for endpoint in ("userinfo_endpoint", "end_session_endpoint", "authorization_endpoint"):
        path = about[endpoint].removeprefix(ISSUER)
        assert (await client.get(path)).status_code != 404
    assert json.dumps(about["claims_supported"]).count("sub") == 1


async def test_userinfo_is_no_way_to_read_anothers_name(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app, scope="openid profile")
    other = await make_user(runtime)
    query = {"sub": str(other.id), "id_token": tokens.tokens["id_token"]}
    answer = await signed_in.client.get("/userinfo", params=query, headers=tokens.header)
    assert answer.json()["sub"] != str(other.id)
