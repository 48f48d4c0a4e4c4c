"""/logout: an application asks that the person be signed out here."""

import httpx2
import pytest

from app.access.consents import withdraw_consent
from app.runtime import Runtime
from tests.support.browsing import Application, Form, PersonsBrowser, register
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, SignedIn, Someone, make_user

AFTER = "https://app.example/bye"


@pytest.fixture
async def app(runtime: Runtime) -> Application:
    return await register(runtime, "app", post_logout_redirect_uris=[AFTER])


@pytest.fixture
async def tokens(signed_in: PersonsBrowser, app: Application) -> SignedIn:
    return await signed_in.let_in(app, scope="openid read:items")


async def is_signed_in(browser: PersonsBrowser) -> bool:
    return (await browser.client.get("/account")).status_code == 200


async def ask(browser: PersonsBrowser, **parameters: str) -> httpx2.Response:
    return await browser.client.get("/logout", params=parameters)


async def choose(browser: PersonsBrowser, page: httpx2.Response, what: str) -> httpx2.Response:
    assert page.status_code == 200, page.text
    form = Form(page.text)
    data = {**form.fields, "decision": what}
    return await browser.client.post(f"/{form.action}", data=data)


async def test_with_an_id_token_of_theirs_the_person_is_signed_out_and_sent_back(
    signed_in: PersonsBrowser, tokens: SignedIn, clock: MovableClock
) -> None:
    """Also when it has expired: applications keep it for this."""
    clock.move(minutes=20)
    answer = await ask(
        signed_in,
        id_token_hint=tokens.tokens["id_token"],
        post_logout_redirect_uri=AFTER,
        state="s 1",
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{AFTER}?state=s+1"
    assert not await is_signed_in(signed_in)


async def test_an_application_that_was_removed_signs_nobody_out_unasked(
    runtime: Runtime, signed_in: PersonsBrowser, tokens: SignedIn, alice: Someone
) -> None:
    async with runtime.work(OPERATOR.signed_in_as(alice.id)) as work:
        await withdraw_consent(work, "app")
    page = await ask(signed_in, id_token_hint=tokens.tokens["id_token"])
    assert page.status_code == 200
    assert "Sign out?" in page.text
    assert await is_signed_in(signed_in)


async def test_tokens_that_applications_hold_go_on(
    signed_in: PersonsBrowser, tokens: SignedIn
) -> None:
    await ask(signed_in, id_token_hint=tokens.tokens["id_token"])
    assert (await signed_in.client.get("/items", headers=tokens.header)).status_code == 200


async def test_without_an_id_token_the_person_is_asked(
    signed_in: PersonsBrowser, app: Application
) -> None:
    asked = {"client_id": "app", "post_logout_redirect_uri": AFTER, "state": "x"}
    page = await ask(signed_in, **asked)
    assert await is_signed_in(signed_in)
    answer = await choose(signed_in, page, "stay")
    assert answer.headers["location"] == "account"
    assert await is_signed_in(signed_in)
    answer = await choose(signed_in, page, "here")
    assert answer.headers["location"] == f"{AFTER}?state=x"
    assert not await is_signed_in(signed_in)


async def test_signing_out_everywhere_ends_what_applications_hold_too(
    signed_in: PersonsBrowser, tokens: SignedIn
) -> None:
    answer = await choose(signed_in, await ask(signed_in), "everywhere")
    assert answer.headers["location"] == "sign-in"
    assert not await is_signed_in(signed_in)
    assert (await signed_in.client.get("/items", headers=tokens.header)).status_code == 401


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/",
        "https://app.example/bye/",
        "https://app.example/bye?x=1",
        "https://app.example/bye/../evil",
        "HTTPS://app.example/bye",
        "javascript:alert(1)",
    ],
)
async def test_nothing_is_sent_to_an_address_that_is_not_registered(
    signed_in: PersonsBrowser, tokens: SignedIn, uri: str
) -> None:
    answer = await ask(
        signed_in, id_token_hint=tokens.tokens["id_token"], post_logout_redirect_uri=uri
    )
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert await is_signed_in(signed_in)


async def test_an_address_counts_for_the_client_that_has_registered_it_alone(
    runtime: Runtime, signed_in: PersonsBrowser, tokens: SignedIn
) -> None:
    await register(runtime, "other")
    for asked in (
        {"client_id": "other"},
        {"client_id": "other", "id_token_hint": tokens.tokens["id_token"]},
        {},
        {"client_id": "no such"},
    ):
        answer = await ask(signed_in, post_logout_redirect_uri=AFTER, **asked)
        assert answer.status_code == 400, asked
    assert await is_signed_in(signed_in)


async def test_with_what_is_no_id_token_of_theirs_the_person_is_asked(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, tokens: SignedIn
) -> None:
    """Of another person, of nobody, forged; and an access token, which any service may see."""
    other = PersonsBrowser.of(runtime)
    async with other.client:
        await other.sign_in(await make_user(runtime, "read:items"))
        foreign = (await other.let_in(app, scope="openid")).tokens["id_token"]
    genuine = tokens.tokens["id_token"]
    for hint in (foreign, tokens.token, "garbage", "a.b.c", genuine[:-4] + "AAAA", "x" * 9000):
        assert (await ask(signed_in, id_token_hint=hint)).status_code == 200, hint
        assert await is_signed_in(signed_in)


async def test_another_sites_form_comes_back_as_a_get_and_carries_no_cookie(
    signed_in: PersonsBrowser, tokens: SignedIn
) -> None:
    form = {"id_token_hint": tokens.tokens["id_token"], "post_logout_redirect_uri": AFTER}
    answer = await signed_in.client.post("/logout", data=form)
    assert answer.status_code == 303
    assert await is_signed_in(signed_in)
    assert (await signed_in.client.get(f"/{answer.headers['location']}")).status_code == 303
    assert not await is_signed_in(signed_in)


async def test_another_site_cant_answer_the_question(
    signed_in: PersonsBrowser, alice: Someone
) -> None:
    page = await ask(signed_in)
    form = Form(page.text)
    for changes, headers in (
        ({"token": ""}, {}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
    ):
        data = {**form.fields, "decision": "everywhere", **changes}
        answer = await signed_in.client.post(f"/{form.action}", data=data, headers=headers)
        assert answer.status_code == 403
    assert await is_signed_in(signed_in)


async def test_who_is_not_signed_in_is_sent_back_at_once(
    browser: PersonsBrowser, app: Application
) -> None:
    answer = await ask(browser, client_id="app", post_logout_redirect_uri=AFTER)
    assert answer.headers["location"] == AFTER
    assert (await ask(browser)).headers["location"] == "sign-in"
