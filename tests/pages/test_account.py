"""The account page: who is signed in, where, and whom they have let in."""

import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.identity.models import Session
from app.pages.devices import PROGRAMS, SYSTEMS, device_of
from app.runtime import Runtime
from app.settings import PROJECT
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.browsing import Application, Form, PersonsBrowser, form_with, register
from tests.support.factories import OPERATOR, Someone, add_session, make_user, sign_in


async def remove(browser: PersonsBrowser, app_id: str, **changes: str) -> int:
    """What pressing Remove beside this application is answered, with these fields changed."""
    return (await browser.press("/account", f'value="{app_id}"', **changes)).status_code


async def test_a_person_sees_whom_they_have_let_in_and_takes_it_back(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    other = await register(runtime, "other")
    tokens, others = await signed_in.let_in(app), await signed_in.let_in(other)
    page = await signed_in.client.get("/account")
    assert "Alice" in page.text
    assert Form(page.text).actions.count("withdraw") == 2
    assert await remove(signed_in, "app") == 303
    assert not await tokens.works()
    assert await others.works()
    page = await signed_in.client.get("/account")
    assert Form(page.text).actions.count("withdraw") == 1
    assert (await signed_in.authorize(app)).status_code == 200, "they are asked again"


async def test_removing_needs_the_form_of_this_person_and_this_application(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    await register(runtime, "other")
    tokens = await signed_in.let_in(app)
    assert await remove(signed_in, "app", token="x") == 403
    assert await remove(signed_in, "app", client_id="other") == 403
    data = {"client_id": "app"}
    assert (await signed_in.client.post("/withdraw", data=data)).status_code == 403
    assert await tokens.works()


async def test_no_one_sees_or_removes_what_another_has_let_in(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application
) -> None:
    tokens = await signed_in.let_in(app)
    bob: Someone = await make_user(runtime, "read:items")
    other = PersonsBrowser.of(runtime)
    async with other.client:
        await other.sign_in(bob)
        page = await other.client.get("/account")
        assert "withdraw" not in Form(page.text).actions
    assert await tokens.works()


async def sessions_of(browser: PersonsBrowser) -> list[str]:
    """The ids of the sessions on the page, from the top."""
    page = await browser.client.get("/account")
    assert page.status_code == 200
    return re.findall(r'name="session" value="([^"]+)"', page.text)


async def test_the_page_lists_the_sessions_that_the_api_lists_and_marks_its_own(
    signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    await signed_in.let_in(app)
    own = await sign_in(signed_in.client, alice)
    answer = await signed_in.client.get("/users/me/sessions", headers=own.header)
    listed = {each["id"] for each in answer.json()["items"]}
    assert len(listed) == 3
    shown = await sessions_of(signed_in)
    assert set(shown) == listed
    page = (await signed_in.client.get("/account")).text
    assert page.count("This browser") == 1
    assert page.index("This browser") < page.index(shown[0]), "the browser's own is the first"
    text = Form(page).text
    for told_of in ("An app", "These pages", "Signed in with a password", "Python (httpx)"):
        assert told_of in text


async def test_ending_one_session_ends_that_alone_at_once(
    signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens, own = await signed_in.let_in(app), await sign_in(signed_in.client, alice)
    answer = await signed_in.press("/account", "An app")
    page = await signed_in.follow(answer)
    assert "The session has ended." in page.text
    assert not await tokens.works()
    assert await own.works()
    assert "withdraw" in Form(page.text).actions, "the application may still sign in"


async def test_ending_its_own_session_signs_the_browser_out(signed_in: PersonsBrowser) -> None:
    answer = await signed_in.press("/account", 'name="session"')
    assert answer.headers["location"] == "sign-in"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await signed_in.client.get("/account")).headers["location"] == "sign-in"


async def test_end_all_others_ends_every_session_but_this_browsers(
    runtime: Runtime, signed_in: PersonsBrowser, app: Application, alice: Someone
) -> None:
    tokens, own = await signed_in.let_in(app), await sign_in(signed_in.client, alice)
    elsewhere = PersonsBrowser.of(runtime)
    async with elsewhere.client:
        await elsewhere.sign_in(alice)
        page = await signed_in.follow(await signed_in.press("/account", "End all others"))
        assert "All your other sessions have ended." in page.text
        assert "End all others" not in page.text
        assert not await tokens.works()
        assert not await own.works()
        assert (await elsewhere.client.get("/account")).headers["location"] == "sign-in"
    async with runtime.sessions() as db:
        ((actor, subject, detail),) = await told(db, "session.ended")
        assert (actor, subject, detail["sessions"]) == (alice.id, alice.id, 3)


async def session_of(runtime: Runtime, user: Someone) -> str:
    """The id of the user's only session."""
    async with runtime.sessions() as db:
        found = await db.scalars(select(Session.id).where(Session.user_id == user.id))
        return str(found.one())


async def test_no_one_ends_the_session_of_another_person(
    runtime: Runtime, signed_in: PersonsBrowser, client: httpx2.AsyncClient
) -> None:
    """Not with a form of their own: its token is for the session that it was made for."""
    bob = await make_user(runtime)
    theirs = await sign_in(client, bob)
    session_id = await session_of(runtime, bob)
    answer = await signed_in.press("/account", 'name="session"', session=session_id)
    assert answer.status_code == 403
    assert await theirs.works()


async def test_the_domain_ends_no_session_of_another_person_whatever_the_form_says(
    runtime: Runtime, signed_in: PersonsBrowser, client: httpx2.AsyncClient, alice: Someone
) -> None:
    """As if the form's token could be forged."""
    bob = await make_user(runtime)
    theirs = await sign_in(client, bob)
    session_id = await session_of(runtime, bob)
    bound = ("end-session", session_id)
    token = runtime.page_tokens.write(
        signed_in.client.cookies["scopegate"], str(alice.id), *bound, now=runtime.now()
    )
    data = {"session": session_id, "token": token}
    answer = await signed_in.client.post("/end-session", data=data)
    assert answer.headers["location"] == "account"
    assert await theirs.works()


async def test_forms_of_the_account_page_need_their_own_token(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    own = await sign_in(signed_in.client, alice)
    page = (await signed_in.client.get("/account")).text
    of_others = form_with(page, "End all others").fields["token"]
    of_one = form_with(page, 'name="session"').fields
    wrong = [
        ("/end-other-sessions", {"token": ""}),
        ("/end-other-sessions", {"token": of_one["token"]}),
        ("/end-session", {**of_one, "token": of_others}),
        ("/end-session", {"token": of_one["token"]}),
    ]
    for path, data in wrong:
        assert (await signed_in.client.post(path, data=data)).status_code == 403, (path, data)
        assert (await signed_in.client.get(path)).status_code == 405
    foreign = {"sec-fetch-site": "same-site"}
    data = {"token": of_others}
    answer = await signed_in.client.post("/end-other-sessions", data=data, headers=foreign)
    assert answer.status_code == 403
    other = PersonsBrowser.of(runtime)
    async with other.client:
        await other.sign_in(alice)
        answer = await other.client.post("/end-other-sessions", data=data)
        assert answer.status_code == 403, "it is of another browser of the same person"
    async with client_of(runtime) as stranger:
        answer = await stranger.post("/end-other-sessions", data=data)
        assert answer.headers["location"] == "sign-in"
    assert await own.works()


async def test_a_link_makes_the_page_say_nothing(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    own = await sign_in(signed_in.client, alice)
    done = await signed_in.press("/account", "End all others")
    assert "have ended." in (await signed_in.follow(done)).text
    assert not await own.works()
    token = done.headers["location"].partition("token=")[2]
    for query in (
        "done=others",
        f"done=password&token={token}",
        f"done=others&token={token}A",
        f"done=<b>&token={token}",
        "done=%ff",
        "done=others&done=password",
    ):
        page = await signed_in.client.get(f"/account?{query}")
        assert page.status_code == 200
        assert 'role="status"' not in page.text
    async with client_of(runtime) as client:
        other = PersonsBrowser(client)
        await other.sign_in(alice)
        page = await other.follow(done)
        assert 'role="status"' not in page.text


async def test_the_page_is_kept_by_no_cache_and_shown_in_no_frame(
    signed_in: PersonsBrowser,
) -> None:
    page = await signed_in.client.get("/account")
    done = await signed_in.press("/account", "Sign out")
    for answer in (page, done):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in page.text


async def test_a_bearer_token_opens_no_page_of_ours(
    signed_in: PersonsBrowser, app: Application, client: httpx2.AsyncClient, alice: Someone
) -> None:
    """Neither a third party's nor the person's own: only the browser's cookie does."""
    for tokens in (await signed_in.let_in(app), await sign_in(client, alice)):
        for method, path in (
            ("GET", "/account"),
            ("GET", "/change-password"),
            ("POST", "/change-password"),
            ("POST", "/end-session"),
            ("POST", "/end-other-sessions"),
        ):
            sent: dict[str, Any] = {"data": {"token": "x"}} if method == "POST" else {}
            answer = await client.request(method, path, headers=tokens.header, **sent)
            assert answer.headers["location"] == "sign-in", (method, path)
        assert await tokens.works()


@pytest.mark.parametrize(
    ("user_agent", "shown"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Firefox on Linux",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 "
            "(KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/140.0.0.0 Mobile Safari/537.36",
            "Chrome on Android",
        ),
        ("curl/8.5.0", "curl"),
        ("my-own-program 1", "my-own-program 1"),
        ("my-own-program (X11; Linux)", "A program on Linux"),
        ("x" * 400, "x" * 80 + "…"),
        (None, "Unknown program"),
    ],
)
def test_a_session_is_named_by_its_device(user_agent: str | None, shown: str) -> None:
    assert device_of(user_agent) == shown


def test_the_console_names_devices_in_the_same_way() -> None:
    script = (PROJECT / "app/console/assets/lib/device.js").read_text()
    lines = re.findall(r'^  \[/(.*)/, "(.*)"\],$', script, re.M)
    of_console = [(mark.replace("\\/", "/"), name) for mark, name in lines]
    assert of_console == [*PROGRAMS.items(), *SYSTEMS.items()]


async def test_a_hundred_sessions_are_shown_with_this_browsers_among_them(
    runtime: Runtime, signed_in: PersonsBrowser, alice: Someone
) -> None:
    async with runtime.work(OPERATOR) as work:
        for _ in range(101):
            await add_session(work, alice.id, lifetime=timedelta(hours=1))
    shown = await sessions_of(signed_in)
    assert len(shown) == 100
    page = (await signed_in.client.get("/account")).text
    assert "There are more." in page
    assert page.index("This browser") < page.index(shown[0])
