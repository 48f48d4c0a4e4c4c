"""The authorization code flow, end to end, and each way to get it wrong that a client could see."""

from dataclasses import replace

import httpx2
import pytest
from sqlalchemy import select, text

from app.access.client_registry import change_client, delete_client
from app.access.grants import revoke
from app.identity.models import Session
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.browsing import (
    CALLBACK,
    Application,
    Form,
    PersonsBrowser,
    answered,
    form_with,
    register,
)
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, make_user, status

ISSUER = "http://127.0.0.1:8000"


def refused(answer: httpx2.Response) -> str:
    """The error of a refused token request."""
    assert answer.status_code == 400, answer.text
    error: str = answer.json()["error"]
    return error


async def test_a_person_signs_in_agrees_and_the_application_gets_tokens(
    browser: PersonsBrowser, alice: Someone, app: Application, runtime: Runtime
) -> None:
    to_sign_in = await browser.authorize(app)
    assert to_sign_in.status_code == 303
    path, _, query = to_sign_in.headers["location"].partition("?")
    assert path == "sign-in"
    back = await browser.sign_in(alice, f"?{query}")
    assert back.headers["location"] == f"authorize?{query}"
    page = await browser.client.get(f"/{back.headers['location']}")
    form = Form(page.text)
    assert form.scopes == ["read:items"]
    assert form.text.index("app.example") < form.text.index("An app")
    assert "Alice" in form.text
    found = answered(await browser.decide(page))
    assert found["iss"] == ISSUER
    assert found["state"] == app.state
    tokens = await app.tokens(browser.client, found["code"])
    assert tokens.tokens["scope"] == "read:items"
    assert tokens.tokens["token_type"] == "bearer"
    assert await tokens.status("/items") == 200
    fresh = await app.refresh(browser.client, tokens.refresh_token)
    assert fresh.json()["scope"] == "read:items"
    claims, _ = await runtime.access_tokens.verify(fresh.json()["access_token"], now=runtime.now())
    assert claims.client_id == "app"


async def test_scopes_are_asked_and_consented_and_in_the_ceiling_and_granted(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    app = await register(runtime, "narrow", scopes=["read:items", "write:items", "read:users"])
    asked = "read:items write:items read:users read:audit admin"
    page = await signed_in.authorize(app, scope=asked)
    assert Form(page.text).scopes == ["read:items", "write:items"], "read:users is not granted"
    code = answered(await signed_in.decide(page, scopes=["write:items"]))["code"]
    tokens = await app.tokens(signed_in.client, code)
    assert tokens.tokens["scope"] == "write:items"
    assert await tokens.status("/items") == 403


async def test_without_a_scope_the_ceiling_is_asked_for_and_never_admin(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    app = await register(runtime, "all")
    await browser.sign_in(await make_user(runtime, "admin"))
    tokens = await browser.let_in(app, scope=None)
    scopes = set(tokens.tokens["scope"].split())
    assert "read:items" in scopes
    assert "admin" not in scopes
    assert await tokens.status("/users") == 200


async def test_an_app_with_admin_in_its_ceiling_may_get_admin(
    runtime: Runtime, browser: PersonsBrowser
) -> None:
    app = await register(runtime, "console", scopes=["admin"])
    await browser.sign_in(await make_user(runtime, "admin"))
    tokens = await browser.let_in(app, scope="admin")
    assert tokens.tokens["scope"] == "admin"
    assert await tokens.status("/clients") == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "x" * 42}, "invalid_request"),
        ({"code_challenge": "x" * 44}, "invalid_request"),
        ({"code_challenge": "!" * 43}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "read:audit"}, "invalid_scope"),
        ({"scope": 'a"b'}, "invalid_scope"),
        ({"request": "x"}, "request_not_supported"),
        ({"request_uri": "https://app.example/x"}, "request_uri_not_supported"),
        ({"resource": "https://api.example"}, "invalid_target"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "none"}, "consent_required"),
        ({"max_age": "-1"}, "invalid_request"),
    ],
)
async def test_what_is_wrong_is_told_at_the_redirect_uri(
    signed_in: PersonsBrowser, app: Application, changes: dict[str, str | None], error: str
) -> None:
    answer = await signed_in.authorize(app, **changes)
    assert answer.headers["location"].startswith(f"{CALLBACK}?")
    found = answered(answer)
    assert (found["error"], found["state"], found["iss"]) == (error, app.state, ISSUER)
    assert "code" not in found


async def test_a_repeated_parameter_is_refused(signed_in: PersonsBrowser, app: Application) -> None:
    query = str(httpx2.QueryParams(app.asking()))
    answer = await signed_in.client.get(f"/authorize?{query}&scope=write:items")
    assert answered(answer)["error"] == "invalid_request"
    for name in ("client_id", "redirect_uri"):
        value = app.asking()[name]
        answer = await signed_in.client.get(f"/authorize?{query}&{name}={value}")
        assert answer.status_code == 400
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/callback",
        f"{CALLBACK}/",
        f"{CALLBACK}/../other",
        f"{CALLBACK};x=y",
        f"{CALLBACK}?next=https://evil.example",
        "https://app.example:8443/callback",
        "https://app.example@evil.example/callback",
        "https://app.example.evil.example/callback",
        "https://APP.example/callback",
        "http://app.example/callback",
        "https://app.example/%63allback",
        "javascript:alert(1)",
        "//app.example/callback",
        "https://app.example/callback#x",
    ],
)
async def test_nothing_is_ever_sent_to_a_redirect_uri_that_is_not_registered(
    signed_in: PersonsBrowser, app: Application, uri: str
) -> None:
    # Every error too, and without anybody signed in: the client is judged before all else.
    for changes in ({}, {"response_type": "token"}, {"prompt": "none"}):
        answer = await signed_in.authorize(app, redirect_uri=uri, **changes)
        assert answer.status_code == 400
        assert "location" not in answer.headers
        assert uri not in answer.text
    sign_in = await signed_in.client.get("/sign-in", params=app.asking(redirect_uri=uri))
    assert sign_in.status_code == 400
    posted = await signed_in.client.post("/consent", params=app.asking(redirect_uri=uri), data={})
    assert posted.status_code == 400


@pytest.mark.parametrize("prompt", [None, "none"])
async def test_an_unknown_client_is_a_page_and_never_a_redirect(
    browser: PersonsBrowser, app: Application, prompt: str | None
) -> None:
    for client_id in (None, "", "APP", "no-such", "scopegate", "a\0b"):
        answer = await browser.authorize(app, client_id=client_id, prompt=prompt)
        assert answer.status_code == 400
        assert "location" not in answer.headers
        assert "text/html" in answer.headers["content-type"]


async def test_prompt_none_asks_nobody_to_sign_in(
    browser: PersonsBrowser, app: Application
) -> None:
    assert answered(await browser.authorize(app, prompt="none"))["error"] == "login_required"


async def test_a_redirect_uri_may_be_left_out_where_one_is_registered(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    code = await signed_in.code(app, redirect_uri=None)
    answer = await app.redeem(signed_in.client, code, redirect_uri=None)
    assert answer.status_code == 200
    two = await register(runtime, "two", redirect_uris=[CALLBACK, "https://b.example/"])
    assert (await signed_in.authorize(two, redirect_uri=None)).status_code == 400


async def test_any_port_of_a_loopback_address_is_the_same(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    tool = await register(runtime, "tool", redirect_uris=["http://127.0.0.1/callback"])
    for uri in ("http://127.0.0.1:49152/callback", "http://127.0.0.1/callback"):
        tool.redirect_uri = uri
        page = await signed_in.authorize(tool)
        code = answered(await signed_in.decide(page))["code"]
        assert (await tool.redeem(signed_in.client, code)).status_code == 200
    for uri in (
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1:49152/callback/x",
        "http://localhost:49152/callback",
        "http://127.0.0.1:99999/callback",
    ):
        assert (await signed_in.authorize(tool, redirect_uri=uri)).status_code == 400


async def test_a_post_does_what_a_get_does_and_by_303_alone(
    signed_in: PersonsBrowser, app: Application
) -> None:
    answer = await signed_in.client.post("/authorize", data=app.asking())
    assert answer.status_code == 303
    page = await signed_in.client.get(f"/{answer.headers['location']}")
    assert Form(page.text).scopes == ["read:items"]


# Codes.


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 64},
        {"code_verifier": "x" * 42},
        {"redirect_uri": None},
        {"redirect_uri": f"{CALLBACK}/"},
        {"client_id": "other"},
        {"client_id": "a\0b"},
        {"code": "sgc_" + "x" * 43},
    ],
)
async def test_a_code_is_good_for_what_it_was_issued_for_alone_and_a_wrong_try_changes_nothing(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, changes: dict[str, str | None]
) -> None:
    await register(runtime, "other")
    code = await signed_in.code(app)
    given = changes.get("code") or code
    rest = {name: value for name, value in changes.items() if name != "code"}
    assert refused(await app.redeem(signed_in.client, given, **rest)) == "invalid_grant"
    assert (await app.redeem(signed_in.client, code)).status_code == 200


async def test_a_code_without_its_verifier_is_refused(
    signed_in: PersonsBrowser, app: Application
) -> None:
    code = await signed_in.code(app)
    for verifier in (None, ""):
        answer = await app.redeem(signed_in.client, code, code_verifier=verifier)
        assert refused(answer) == "invalid_request"


async def test_a_code_lives_for_a_minute(
    signed_in: PersonsBrowser, app: Application, clock: MovableClock
) -> None:
    code, late = await signed_in.code(app), await signed_in.code(app)
    clock.move(seconds=59)
    assert (await app.redeem(signed_in.client, code)).status_code == 200
    clock.move(seconds=2)
    assert refused(await app.redeem(signed_in.client, late)) == "invalid_grant"


async def test_a_code_that_comes_again_ends_what_it_has_given(
    signed_in: PersonsBrowser, app: Application, runtime: Runtime, alice: Someone
) -> None:
    code = await signed_in.code(app)
    tokens = await app.tokens(signed_in.client, code)
    wrong = await app.redeem(signed_in.client, code, code_verifier="x" * 64)
    assert refused(wrong) == "invalid_grant"
    assert await tokens.works(), "a wrong try ends nothing: anybody may try"
    assert refused(await app.redeem(signed_in.client, code)) == "invalid_grant"
    assert not await tokens.works()
    assert refused(await app.refresh(signed_in.client, tokens.refresh_token)) == "invalid_grant"
    async with runtime.sessions() as db:
        ((_, subject, detail),) = await told(db, "code.replayed")
        ended = await db.scalar(
            select(Session).where(Session.end_reason == "authorization code used again")
        )
    assert ended is not None
    assert (subject, detail) == (alice.id, {"client_id": "app", "session": str(ended.id)})


async def test_signing_out_of_the_browser_voids_its_codes_and_leaves_tokens(
    signed_in: PersonsBrowser, app: Application
) -> None:
    tokens, code = await signed_in.let_in(app), await signed_in.code(app)
    page = await signed_in.client.get("/account")
    form = form_with(page.text, "Sign out")
    answer = await signed_in.client.post(f"/{form.action}", data=form.fields)
    assert answer.status_code == 303
    assert refused(await app.redeem(signed_in.client, code)) == "invalid_grant"
    assert await tokens.works()
    assert (await signed_in.client.get("/account")).headers["location"] == "sign-in"


async def test_a_confidential_client_shows_its_secret(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    backend = await register(runtime, "backend", confidential=True)
    code = await signed_in.code(backend)
    answer = await backend.redeem(signed_in.client, code, client_secret=None)
    assert refused(answer) == "invalid_grant"
    wrong = await backend.redeem(signed_in.client, code, client_secret="sgs_wrong")
    assert wrong.status_code == 401
    tokens = await backend.tokens(signed_in.client, code)
    data = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
    for names in ({}, {"client_id": "backend"}):
        assert refused(await signed_in.client.post("/token", data=data | names)) == "invalid_grant"
    assert (await backend.refresh(signed_in.client, tokens.refresh_token)).status_code == 200


async def test_a_public_client_cannot_pose_as_a_service_account(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    """Nor may a confidential client take what a public one was issued."""
    backend = await register(runtime, "backend", confidential=True)
    code = await signed_in.code(app)
    stolen = Application("backend", verifier=app.verifier, secret=backend.secret)
    assert refused(await stolen.redeem(signed_in.client, code)) == "invalid_grant"


async def test_a_refresh_token_of_one_client_is_of_no_use_to_another_or_to_none(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    other = await register(runtime, "other")
    tokens = await signed_in.let_in(app)
    data = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token}
    assert refused(await signed_in.client.post("/token", data=data)) == "invalid_grant"
    assert refused(await other.refresh(signed_in.client, tokens.refresh_token)) == "invalid_grant"
    assert (await app.refresh(signed_in.client, tokens.refresh_token)).status_code == 200


async def test_without_the_password_grant_people_still_sign_in_at_the_page(
    runtime: Runtime, alice: Someone, app: Application
) -> None:
    settings = runtime.settings.model_copy(update={"password_grant": False})
    browser = PersonsBrowser.of(replace(runtime, settings=settings))
    async with browser.client:
        assert (await browser.sign_in(alice)).status_code == 303
        assert await (await browser.let_in(app)).status("/items") == 200
        metadata = (await browser.client.get("/.well-known/openid-configuration")).json()
        assert "password" not in metadata["grant_types_supported"]
        assert "authorization_code" in metadata["grant_types_supported"]


async def test_each_client_may_have_its_own_refresh_grace(
    runtime: Runtime, signed_in: PersonsBrowser, clock: MovableClock
) -> None:
    app = await register(runtime, "patient", refresh_grace=120)
    tokens = await signed_in.let_in(app)
    used = tokens.refresh_token
    assert (await app.refresh(signed_in.client, used)).status_code == 200
    clock.move(seconds=110)
    assert (await app.refresh(signed_in.client, used)).status_code == 200
    clock.move(seconds=20)
    assert refused(await app.refresh(signed_in.client, used)) == "invalid_grant"


@pytest.mark.parametrize("grant_type", ["authorization_code", "refresh_token"])
async def test_no_resource_is_known_at_the_token_endpoint(
    signed_in: PersonsBrowser, app: Application, grant_type: str
) -> None:
    code = await signed_in.code(app)
    resource = "https://api.example"
    if grant_type == "authorization_code":
        answer = await app.redeem(signed_in.client, code, resource=resource)
    else:
        tokens = await app.tokens(signed_in.client, code)
        answer = await app.refresh(signed_in.client, tokens.refresh_token, resource=resource)
    assert refused(answer) == "invalid_target"


# What an application may do ends with what it rests on: at once, and at every request.


async def test_a_lowered_ceiling_narrows_tokens_that_were_issued(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app, scope="read:items write:items")
    assert await tokens.status("/items") == 200
    async with runtime.work(OPERATOR) as work:
        await change_client(work, "app", {"scopes": ["write:items"]})
    assert await tokens.status("/items") == 403
    fresh = (await app.refresh(signed_in.client, tokens.refresh_token)).json()
    assert fresh["scope"] == "write:items"


async def test_deleting_a_client_ends_its_tokens_codes_and_refresh_tokens(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens, code = await signed_in.let_in(app), await signed_in.code(app)
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, "app")
    assert not await tokens.works()
    assert refused(await app.redeem(signed_in.client, code)) == "invalid_grant"
    assert refused(await app.refresh(signed_in.client, tokens.refresh_token)) == "invalid_grant"
    await register(runtime, "app")
    assert not await tokens.works(), "another client of the same name is another client"
    assert refused(await app.refresh(signed_in.client, tokens.refresh_token)) == "invalid_grant"


async def test_a_revoked_grant_and_a_withdrawn_consent_end_it(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens = await signed_in.let_in(app, scope="read:items write:items")
    async with runtime.work(OPERATOR) as work:
        await revoke(work, alice.id, "write:items")
    assert await tokens.status("/items") == 200
    own = await bearer(signed_in.client, alice)
    listed = (await signed_in.client.get("/users/me/applications", headers=own)).json()["items"]
    assert [each["client_id"] for each in listed] == ["app"]
    assert listed[0]["scopes"] == ["read:items", "write:items"]
    code = await signed_in.code(app)
    gone = await signed_in.client.delete("/users/me/applications/app", headers=own)
    assert gone.status_code == 204
    assert not await tokens.works()
    assert refused(await app.redeem(signed_in.client, code)) == "invalid_grant"
    assert refused(await app.refresh(signed_in.client, tokens.refresh_token)) == "invalid_grant"
    again = await signed_in.client.delete("/users/me/applications/app", headers=own)
    assert again.status_code == 404
    assert await status(signed_in.client, own) == 200, "her other sessions go on"
    fresh = await signed_in.let_in(app)
    assert await fresh.works()
    assert not await tokens.works(), "a new consent revives no old token"


async def test_no_third_party_changes_the_account_of_its_user(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app)
    password = {"current_password": "x", "new_password": "y"}
    for method, path, body in (
        ("POST", "/users/me/password", password),
        ("DELETE", "/users/me/sessions", None),
        ("DELETE", "/users/me/sessions/01890000-0000-7000-8000-000000000001", None),
        ("DELETE", "/users/me/applications/app", None),
    ):
        answer = await signed_in.client.request(method, path, json=body, headers=tokens.header)
        assert answer.status_code == 403, path
    me = (await signed_in.client.get("/users/me", headers=tokens.header)).json()
    assert me["granted"] == ["read:items"], "nor does it learn what else she holds"
    async with runtime.work(OPERATOR) as work:
        await change_client(work, "app", {"trusted": True})
    gone = await signed_in.client.delete("/users/me/applications/app", headers=tokens.header)
    assert gone.status_code == 204


async def test_no_code_cookie_verifier_or_token_is_in_the_audit_log(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    app = await register(runtime, "backend", confidential=True)
    code = await signed_in.code(app)
    tokens = await app.tokens(signed_in.client, code)
    await app.redeem(signed_in.client, code)
    canaries = {code, app.verifier, app.state, tokens.token, tokens.refresh_token, PASSWORD}
    assert app.secret
    canaries |= {app.secret, signed_in.client.cookies["scopegate"]}
    async with runtime.sessions() as db:
        rows = str((await db.scalars(text("SELECT audit_entries::text FROM audit_entries"))).all())
    assert "code.replayed" in rows
    assert [each for each in canaries if each in rows] == []


async def test_sessions_of_applications_and_browsers_are_listed_like_others(
    signed_in: PersonsBrowser, app: Application, runtime: Runtime, alice: Someone
) -> None:
    tokens = await signed_in.let_in(app)
    async with runtime.sessions() as db:
        found = list(await db.scalars(select(Session).where(Session.user_id == alice.id)))
    assert sorted(each.client_id or "" for each in found) == ["", "app"]
    listed = (await signed_in.client.get("/users/me/sessions", headers=tokens.header)).json()
    assert [each["current"] for each in listed["items"] if each["client_id"] == "app"] == [True]
