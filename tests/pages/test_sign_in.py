"""The sign-in page and the browser's session."""

from dataclasses import replace

import httpx2
import pytest
from sqlalchemy import select

from app.access.accounts import disable
from app.audit.models import AuditEntry
from app.identity.models import BrowserSession, Session
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.browsing import Application, Form, PersonsBrowser, answered, register
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user
from tests.support.services import make_service

COOKIE = "scopegate"


def at_https(runtime: Runtime) -> Runtime:
    """The same service, reached by https."""
    settings = runtime.settings.model_copy(update={"issuer": "https://auth.example"})
    return replace(runtime, settings=settings)


async def test_the_cookie_is_the_hosts_own_and_no_script_and_no_other_site_gets_it(
    runtime: Runtime, alice: Someone
) -> None:
    async with client_of(at_https(runtime)) as client:
        client.base_url = httpx2.URL("https://scopegate.test")
        answer = await PersonsBrowser(client).sign_in(alice)
        (cookie,) = answer.headers.get_list("set-cookie")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert cookie.startswith("__Host-scopegate=")
    assert parts == {"path=/", "secure", "httponly", "samesite=lax"}


async def test_a_cookie_that_was_there_before_signs_nobody_in(
    runtime: Runtime, browser: PersonsBrowser, alice: Someone
) -> None:
    """Session fixation: an attacker who plants a cookie does not know the one that counts."""
    planted = "planted-by-an-attacker"
    browser.client.cookies.set(COOKIE, planted, domain="scopegate.test", path="/")
    await browser.sign_in(alice)
    assert browser.client.cookies[COOKIE] != planted
    async with client_of(runtime) as other:
        other.cookies.set(COOKIE, planted)
        assert (await other.get("/account")).headers["location"] == "sign-in"


async def test_the_cookie_is_kept_as_a_digest_alone(
    signed_in: PersonsBrowser, runtime: Runtime
) -> None:
    cookie = signed_in.client.cookies[COOKIE]
    async with runtime.sessions() as db:
        for table in (BrowserSession, Session, AuditEntry):
            rows = await db.execute(select(table.__table__))
            assert cookie not in str(rows.all())


async def test_a_form_of_another_page_browser_or_request_signs_nobody_in(
    runtime: Runtime, browser: PersonsBrowser, alice: Someone, app: Application
) -> None:
    """Sign-in CSRF: else a page could sign a person in as the attacker."""
    data = {"username": alice.username, "password": PASSWORD}
    query = f"?{httpx2.QueryParams(app.asking())}"
    own = Form((await browser.client.get("/sign-in")).text).fields["token"]
    of_request = Form((await browser.client.get(f"/sign-in{query}")).text).fields["token"]
    async with client_of(runtime) as stranger:
        theirs = Form((await stranger.get("/sign-in")).text).fields["token"]
    for token in ("", "x", theirs, of_request, own[:-4] + "AAAA"):
        answer = await browser.client.post("/sign-in", data={**data, "token": token})
        assert answer.status_code == 403
    answer = await browser.client.post(f"/sign-in{query}", data={**data, "token": own})
    assert answer.status_code == 403
    foreign = {"sec-fetch-site": "cross-site"}
    answer = await browser.client.post("/sign-in", data={**data, "token": own}, headers=foreign)
    assert answer.status_code == 403
    async with client_of(runtime) as without_cookie:
        answer = await without_cookie.post("/sign-in", data={**data, "token": own})
        assert answer.headers["location"] == "sign-in"
        assert (await without_cookie.get("/account")).headers["location"] == "sign-in"
    assert (await browser.client.get("/account")).status_code == 303, "nobody is signed in"
    good = await browser.client.post("/sign-in", data={**data, "token": own})
    assert good.status_code == 303


async def test_a_page_that_was_open_for_hours_asks_again(
    browser: PersonsBrowser, alice: Someone, clock: MovableClock
) -> None:
    form = Form((await browser.client.get("/sign-in")).text)
    data = {**form.fields, "username": alice.username, "password": PASSWORD}
    clock.move(seconds=3700)
    late = await browser.client.post("/sign-in", data=data)
    assert late.status_code == 403
    again = Form(late.text)
    answer = await browser.client.post("/sign-in", data={**data, **again.fields})
    assert answer.status_code == 303


async def test_words_and_status_tell_nothing_of_which_names_exist(
    runtime: Runtime, browser: PersonsBrowser, alice: Someone
) -> None:
    await make_service(runtime, "a-service")
    disabled = await register_disabled(runtime)
    pages = []
    for name in ("Alice", "nobody-at-all", "a-service", disabled):
        answer = await browser.sign_in(Someone(alice.id, name), password="wrong")
        assert answer.status_code == 403
        assert "The username or the password is wrong." in answer.text
        form = Form(answer.text)
        pages.append(answer.text.replace(form.fields["token"], "").replace(name, ""))
    assert len(set(pages)) == 1
    right = await browser.sign_in(Someone(alice.id, disabled))
    assert right.status_code == 403


async def register_disabled(runtime: Runtime) -> str:
    """The name of a person who is disabled."""
    user = await make_user(runtime)
    async with runtime.work(OPERATOR) as work:
        await disable(work, user.id)
    return user.username


async def test_the_page_and_the_token_endpoint_have_one_budget_of_failures(
    browser: PersonsBrowser, alice: Someone
) -> None:
    for _ in range(5):
        assert (await browser.sign_in(alice, password="wrong")).status_code == 403
        assert (await login(browser.client, alice, password="wrong")).status_code == 400
    answer = await browser.sign_in(alice)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "too many wrong passwords" in answer.text
    assert (await login(browser.client, alice)).status_code == 429


async def test_sign_ins_and_failures_are_audited(
    browser: PersonsBrowser, alice: Someone, runtime: Runtime
) -> None:
    await browser.sign_in(alice, password="wrong")
    await browser.sign_in(alice)
    async with runtime.sessions() as db:
        ((_, subject, detail),) = await told(db, "login.failed")
        assert (subject, detail["reason"]) == (alice.id, "wrong password")
        ((_, subject, detail),) = await told(db, "login.succeeded")
        assert (subject, detail["scopes"]) == (alice.id, [])
        entries = str((await db.execute(select(AuditEntry.detail))).all())
    assert PASSWORD not in entries


async def test_a_browsers_session_ends_like_any_other(
    signed_in: PersonsBrowser, alice: Someone, app: Application
) -> None:
    own = await bearer(signed_in.client, alice)
    assert (await signed_in.client.get("/account")).status_code == 200
    await signed_in.client.delete("/users/me/sessions", headers=own)
    assert (await signed_in.client.get("/account")).headers["location"] == "sign-in"
    assert (await signed_in.authorize(app)).headers["location"].startswith("sign-in?")


async def test_a_disabled_user_is_signed_out_of_the_browser(
    signed_in: PersonsBrowser, alice: Someone, runtime: Runtime
) -> None:
    async with runtime.work(OPERATOR) as work:
        await disable(work, alice.id)
    assert (await signed_in.client.get("/account")).headers["location"] == "sign-in"


async def test_no_route_but_the_pages_takes_the_cookie_for_anything(
    signed_in: PersonsBrowser,
) -> None:
    for path in ("/users/me", "/items", "/users/me/applications", "/clients"):
        assert (await signed_in.client.get(path)).status_code == 401
    assert (await signed_in.client.post("/introspect", data={"token": "x"})).status_code == 401


async def test_signing_in_anew_ends_the_session_before(
    signed_in: PersonsBrowser, alice: Someone, runtime: Runtime
) -> None:
    before = signed_in.client.cookies[COOKIE]
    await signed_in.sign_in(alice)
    assert signed_in.client.cookies[COOKIE] != before
    async with client_of(runtime) as other:
        other.cookies.set(COOKIE, before)
        assert (await other.get("/account")).status_code == 303


async def test_signing_out_needs_the_form_of_our_own_page(
    signed_in: PersonsBrowser, runtime: Runtime
) -> None:
    assert (await signed_in.client.post("/sign-out", data={"token": "x"})).status_code == 403
    assert (await signed_in.client.get("/sign-out")).status_code == 405
    assert (await signed_in.client.get("/account")).status_code == 200


async def test_prompt_login_and_max_age_ask_for_the_password_once(
    signed_in: PersonsBrowser, app: Application, alice: Someone, clock: MovableClock
) -> None:
    clock.move(seconds=100)
    for changes in ({"prompt": "login"}, {"max_age": "60"}, {"max_age": "0"}):
        answer = await signed_in.authorize(app, **changes)
        location = answer.headers["location"]
        assert location.startswith("sign-in?")
        back = await signed_in.sign_in(alice, location.removeprefix("sign-in"))
        page = await signed_in.client.get(f"/{back.headers['location']}")
        assert page.status_code == 200, "the consent page, and not the sign-in page again"
        clock.move(seconds=100)
        hidden = answered(await signed_in.authorize(app, prompt="none", max_age="60"))
        assert hidden["error"] == "login_required"
    assert (await signed_in.authorize(app, max_age="200")).status_code == 200


async def test_a_login_hint_fills_in_the_name_as_text(
    browser: PersonsBrowser, app: Application
) -> None:
    hint = '"><script>alert(1)</script>'
    page = await browser.client.get("/sign-in", params=app.asking(login_hint=hint))
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text


async def test_pages_have_no_script_no_cache_no_frame_and_a_form_may_lead_to_the_client(
    signed_in: PersonsBrowser, app: Application, runtime: Runtime
) -> None:
    tool = await register(runtime, "tool", redirect_uris=["http://[::1]/", "com.example.app:/cb"])
    asked = {
        "https:": app.asking(),
        "http: https:": replace(tool, redirect_uri="http://[::1]:1234/").asking(),
        "com.example.app: https:": replace(tool, redirect_uri="com.example.app:/cb").asking(),
    }
    for source, parameters in asked.items():
        for path in ("/authorize", "/sign-in"):
            page = await signed_in.client.get(path, params=parameters)
            assert page.status_code == 200
            policy = page.headers["content-security-policy"]
            assert policy.endswith(f"form-action 'self' {source}")
            assert "script-src" not in policy
            assert policy.startswith("default-src 'none'")
            assert page.headers["cache-control"] == "no-store"
            assert page.headers["x-frame-options"] == "DENY"
            assert "access-control-allow-origin" not in page.headers
            assert "<script" not in page.text


async def test_what_goes_wrong_is_a_page(browser: PersonsBrowser) -> None:
    answer = await browser.client.get("/authorize?client_id=%ff")
    assert answer.status_code == 400
    assert "text/html" in answer.headers["content-type"]
    form = {"content-type": "text/plain"}
    answer = await browser.client.post("/sign-in", content=b"x", headers=form)
    assert answer.status_code == 400
    assert "text/html" in answer.headers["content-type"]


@pytest.mark.parametrize("cookies", ["scopegate=a; scopegate=b", "scopegate=", "scopegate=%s"])
async def test_odd_cookies_sign_nobody_in(
    signed_in: PersonsBrowser, runtime: Runtime, cookies: str
) -> None:
    own = signed_in.client.cookies[COOKIE]
    sent = cookies.replace("%s", "x" * 300) if "%s" in cookies else cookies.replace("=b", f"={own}")
    async with client_of(runtime) as client:
        answer = await client.get("/account", headers={"cookie": sent})
    assert answer.headers["location"] == "sign-in"
