"""The page on which people change their password."""

import httpx2
import pytest

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.browsing import Application, Form, PersonsBrowser
from tests.support.factories import PASSWORD, Someone, login, make_user, sign_in

NEW = "another long password"
COOKIE = "scopegate"


async def change(
    browser: PersonsBrowser, current: str = PASSWORD, new: str = NEW, **changes: str
) -> httpx2.Response:
    """What the page answers, with these fields changed."""
    fields = {"password": current, "new-password": new, "new-password-again": new}
    return await browser.press("/change-password", "new-password", **{**fields, **changes})


async def test_a_changed_password_counts_and_ends_all_sessions_but_this_browsers(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens, own = await signed_in.let_in(app), await sign_in(signed_in.client, alice)
    elsewhere = PersonsBrowser.of(runtime)
    async with elsewhere.client:
        await elsewhere.sign_in(alice)
        page = await signed_in.follow(await change(signed_in))
        assert "Your password is changed" in page.text
        assert (await elsewhere.client.get("/account")).headers["location"] == "sign-in"
    assert not await tokens.works()
    assert not await own.works()
    assert (await login(signed_in.client, alice)).status_code == 400
    assert (await login(signed_in.client, alice, password=NEW)).status_code == 200
    async with runtime.sessions() as db:
        ((actor, subject, _),) = await told(db, "password.changed")
        assert (actor, subject) == (alice.id, alice.id)


async def test_a_copy_of_the_cookie_is_void_after_a_changed_password(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    before = signed_in.client.cookies[COOKIE]
    answer = await change(signed_in)
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert signed_in.client.cookies[COOKIE] != before
    assert (await signed_in.client.get("/account")).status_code == 200
    async with client_of(runtime) as thief:
        thief.cookies.set(COOKIE, before)
        assert (await thief.get("/account")).headers["location"] == "sign-in"


async def test_without_the_current_password_nothing_changes(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    own, cookie = await sign_in(signed_in.client, alice), signed_in.client.cookies[COOKIE]
    for wrong in ("wrong", "", NEW):
        answer = await change(signed_in, wrong)
        assert answer.status_code == 403
        assert "The current password is wrong." in answer.text
    assert await own.works()
    assert signed_in.client.cookies[COOKIE] == cookie
    assert (await login(signed_in.client, alice)).status_code == 200
    async with runtime.sessions() as db:
        failures = await told(db, "login.failed")
        assert {detail["reason"] for _, _, detail in failures} == {"wrong current password"}
        assert len(failures) == 3


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("short", "A password has at least 8 bytes."),
        ("password123", "among the most common"),
        ("x" * 1025, "at most 1024 bytes"),
    ],
)
async def test_the_rules_for_a_new_password_are_those_of_the_api(
    signed_in: PersonsBrowser, alice: Someone, new: str, says: str
) -> None:
    answer = await change(signed_in, new=new)
    assert answer.status_code == 422
    assert says in answer.text
    assert new not in answer.text
    own = await sign_in(signed_in.client, alice)
    body = {"current_password": PASSWORD, "new_password": new}
    of_api = await signed_in.client.post("/users/me/password", json=body, headers=own.header)
    assert of_api.status_code == 422
    assert of_api.json()["detail"] in Form(answer.text).text


async def test_a_new_password_is_typed_twice_alike(
    signed_in: PersonsBrowser, alice: Someone
) -> None:
    answer = await change(signed_in, **{"new-password-again": "another wrong password"})
    assert answer.status_code == 422
    assert "are not the same" in answer.text
    assert (await login(signed_in.client, alice)).status_code == 200


async def test_the_page_and_the_api_have_one_budget_of_wrong_current_passwords(
    signed_in: PersonsBrowser, alice: Someone
) -> None:
    own = await sign_in(signed_in.client, alice)
    body = {"current_password": "wrong", "new_password": NEW}
    for _ in range(5):
        assert (await change(signed_in, "wrong")).status_code == 403
        answer = await signed_in.client.post("/users/me/password", json=body, headers=own.header)
        assert answer.status_code == 403
    answer = await change(signed_in)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert (await login(signed_in.client, alice)).status_code in {200, 429}, "and is unchanged"


async def test_the_form_is_bound_to_this_browser_and_person(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    other = PersonsBrowser.of(runtime)
    async with other.client:
        await other.sign_in(await make_user(runtime))
        theirs = Form((await other.client.get("/change-password")).text).fields["token"]
    sign_out = Form((await signed_in.client.get("/account")).text).fields["token"]
    for token in ("", "x", theirs, sign_out):
        assert (await change(signed_in, token=token)).status_code == 403
    foreign = {"sec-fetch-site": "cross-site"}
    page = Form((await signed_in.client.get("/change-password")).text)
    fields = {"password": PASSWORD, "new-password": NEW, "new-password-again": NEW}
    answer = await signed_in.client.post(
        "/change-password", data={**page.fields, **fields}, headers=foreign
    )
    assert answer.status_code == 403
    assert (await login(signed_in.client, alice)).status_code == 200


async def test_who_is_not_signed_in_is_asked_to(runtime: Runtime, browser: PersonsBrowser) -> None:
    assert (await browser.client.get("/change-password")).headers["location"] == "sign-in"
    assert (await browser.client.post("/change-password")).status_code in {303, 400}
    data = {"password": PASSWORD, "new-password": NEW}
    answer = await browser.client.post("/change-password", data=data)
    assert answer.headers["location"] == "sign-in"


async def test_no_password_is_ever_sent_back(signed_in: PersonsBrowser) -> None:
    answer = await change(signed_in, "a wrong current password")
    for secret in ("a wrong current password", NEW):
        assert secret not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
