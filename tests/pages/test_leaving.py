"""The account page's ways out: what is kept about a person as a file, and deleting the account."""

import json

import httpx2

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.browsing import Application, PersonsBrowser, form_with
from tests.support.factories import PASSWORD, Someone, login, sign_in


async def delete(browser: PersonsBrowser, password: str, **changes: str) -> httpx2.Response:
    """What the page answers to this password."""
    return await browser.press("/delete-account", "password", password=password, **changes)


async def test_the_account_page_leads_to_both(signed_in: PersonsBrowser) -> None:
    page = (await signed_in.client.get("/account")).text
    assert "Download your data" in page
    assert 'href="delete-account"' in page


async def test_an_account_is_deleted_by_its_password_and_signed_out_everywhere(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens, own = await signed_in.let_in(app), await sign_in(signed_in.client, alice)
    page = await delete(signed_in, PASSWORD)
    assert page.status_code == 200
    assert "Your account is deleted" in page.text
    assert "scopegate" not in signed_in.client.cookies
    assert (await signed_in.client.get("/account")).headers["location"] == "sign-in"
    assert await tokens.status() == 401
    assert await own.status() == 401
    assert (await login(signed_in.client, alice)).status_code == 400


async def test_without_the_password_or_from_another_page_nothing_is_deleted(
    signed_in: PersonsBrowser, alice: Someone
) -> None:
    for wrong in ("wrong", ""):
        page = await delete(signed_in, wrong)
        assert page.status_code == 403
        assert "The current password is wrong." in page.text
    page = await delete(signed_in, PASSWORD, token="of another page")
    assert page.status_code == 403
    form = {"password": PASSWORD}
    assert (await signed_in.client.post("/delete-account", data=form)).status_code == 403
    assert (await signed_in.client.get("/account")).status_code == 200
    assert (await login(signed_in.client, alice)).status_code == 200


async def test_a_link_deletes_and_exports_nothing(signed_in: PersonsBrowser) -> None:
    assert (await signed_in.client.get("/delete-account")).status_code == 200
    assert (await signed_in.client.get("/export")).status_code == 405
    forged = {"token": "of another page"}
    assert (await signed_in.client.post("/export", data=forged)).status_code == 403
    assert (await signed_in.client.get("/account")).status_code == 200


async def test_who_is_not_signed_in_is_asked_to_sign_in(
    runtime: Runtime, signed_in: PersonsBrowser
) -> None:
    form = form_with((await signed_in.client.get("/account")).text, "Download your data")
    async with client_of(runtime) as stranger:
        for answer in (
            await stranger.get("/delete-account"),
            await stranger.post("/delete-account", data={"password": PASSWORD}),
            await stranger.post("/export", data=form.fields),
        ):
            assert (answer.status_code, answer.headers["location"]) == (303, "sign-in")


async def test_everything_kept_is_downloaded(signed_in: PersonsBrowser, alice: Someone) -> None:
    answer = await signed_in.press("/account", "Download your data")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    found = json.loads(answer.content)
    assert found["account"]["username"] == alice.username
    assert found["audit"][-1]["action"] == "account.exported"


async def test_too_many_downloads_are_a_page_that_says_so(signed_in: PersonsBrowser) -> None:
    answers = [await signed_in.press("/account", "Download your data") for _ in range(6)]
    assert [each.status_code for each in answers] == [200] * 5 + [429]
    assert "exports within an hour" in answers[-1].text
    assert "retry-after" in answers[-1].headers
