"""POST /users/me/email: a change of one's own address, its confirmation and its undoing."""

import httpx2
import pytest
from sqlalchemy import select

from app.identity.models import Session
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.browsing import Application, PersonsBrowser, register
from tests.support.clock import MovableClock
from tests.support.factories import PASSWORD, SignedIn, Someone, login, make_user, sign_in
from tests.support.letters import ADDRESS, delivered, make_reachable, only_mail, token_in

NEW = "new@example.com"


@pytest.fixture
async def alice(runtime: Runtime) -> Someone:
    return await make_reachable(runtime, "read:items", username="alice")


@pytest.fixture
async def session(client: httpx2.AsyncClient, alice: Someone) -> SignedIn:
    return await sign_in(client, alice)


async def change(session: SignedIn, email: str = NEW, **body: str) -> httpx2.Response:
    wanted = {"email": email, "current_password": PASSWORD, **body}
    return await session.client.post("/users/me/email", json=wanted, headers=session.header)


async def confirm(session: SignedIn, token: str) -> httpx2.Response:
    return await session.client.post("/email-verification/confirm", json={"token": token})


async def undo(session: SignedIn, token: str) -> httpx2.Response:
    return await session.client.post("/email-change/undo", json={"token": token})


async def address_of(session: SignedIn) -> tuple[str | None, bool]:
    me = (await session.client.get("/users/me", headers=session.header)).json()
    return me["email"], me["email_verified"]


async def test_a_new_address_counts_once_it_is_confirmed_and_the_old_one_is_told(
    runtime: Runtime, session: SignedIn, alice: Someone
) -> None:
    answer = await change(session)
    assert (answer.status_code, answer.content) == (202, b"")
    asked = await only_mail(runtime)
    assert (asked.template, asked.to, asked.notice) == ("confirm-address", NEW, False)
    assert await address_of(session) == (ADDRESS, True)
    assert (await confirm(session, token_in(asked))).status_code == 204
    assert await address_of(session) == (NEW, True)
    told_ = await only_mail(runtime)
    assert (told_.template, told_.to, told_.notice) == ("address-changed", ADDRESS, True)
    async with runtime.sessions() as db:
        ((_, subject, detail),) = await told(db, "email.changed")
        assert (subject, detail) == (alice.id, {})


async def test_the_old_address_undoes_the_change_for_a_week(
    runtime: Runtime, session: SignedIn, alice: Someone, clock: MovableClock
) -> None:
    await change(session)
    await confirm(session, token_in(await only_mail(runtime)))
    notice = await only_mail(runtime)
    # Also after the thief has chosen another password.
    await session.client.post(
        "/users/me/password",
        json={"current_password": PASSWORD, "new_password": "the thief's own password"},
        headers=session.header,
    )
    # And a reset link that went to the thief is void then.
    await session.client.post("/password-reset", json={"email": NEW})
    thiefs = await only_mail(runtime)
    clock.move(days=6, hours=23)
    again = await sign_in(session.client, alice, password="the thief's own password")
    assert (await undo(session, token_in(notice))).status_code == 204
    assert not await again.works()
    async with runtime.sessions() as db:
        *_, (_, subject, detail) = await told(db, "email.changed")
        assert (subject, detail) == (alice.id, {"undone": True})
        reasons = await db.scalars(select(Session.end_reason).where(Session.user_id == alice.id))
        assert "change of address undone" in set(reasons)
    replaced = await only_mail(runtime)
    assert (replaced.template, replaced.to, replaced.notice) == ("address-replaced", NEW, True)
    assert (replaced.user_id, replaced.values) == (alice.id, {"username": "alice"})
    reset = {"token": token_in(thiefs), "password": "another long password"}
    assert (await session.client.post("/password-reset/confirm", json=reset)).status_code == 400
    await session.client.post("/password-reset", json={"email": ADDRESS})
    assert (await only_mail(runtime)).to == ADDRESS
    assert (await undo(session, token_in(notice))).status_code == 400


async def test_after_a_week_a_change_stays(
    runtime: Runtime, session: SignedIn, clock: MovableClock
) -> None:
    await change(session)
    await confirm(session, token_in(await only_mail(runtime)))
    notice = await only_mail(runtime)
    clock.move(days=7, seconds=1)
    assert (await undo(session, token_in(notice))).status_code == 400


async def test_a_second_change_takes_no_undoing_away(runtime: Runtime, session: SignedIn) -> None:
    notices = []
    for email in (NEW, "newest@example.com"):
        assert (await change(session, email)).status_code == 202
        assert (await confirm(session, token_in(await only_mail(runtime)))).status_code == 204
        notices.append(await only_mail(runtime))
    assert [each.to for each in notices] == [ADDRESS, NEW]
    # The thief's own address gets no link that undoes what follows.
    assert [each.template for each in notices] == ["address-changed", "address-replaced"]
    assert "link" not in notices[1].values
    assert (await undo(session, token_in(notices[0]))).status_code == 204
    await delivered(runtime)
    await session.client.post("/password-reset", json={"email": ADDRESS})
    assert (await only_mail(runtime)).to == ADDRESS


async def test_a_change_that_was_taken_back_is_undone_without_a_word(
    runtime: Runtime, session: SignedIn
) -> None:
    await change(session)
    await confirm(session, token_in(await only_mail(runtime)))
    notice = await only_mail(runtime)
    await change(session, ADDRESS)
    await confirm(session, token_in(await only_mail(runtime)))
    assert (await only_mail(runtime)).to == NEW
    assert (await undo(session, token_in(notice))).status_code == 204
    assert await delivered(runtime) == [], "the address is the same"


async def test_without_the_password_nothing_is_sent(runtime: Runtime, session: SignedIn) -> None:
    answer = await change(session, current_password="wrong")
    assert answer.status_code == 403
    assert await delivered(runtime) == []
    async with runtime.sessions() as db:
        ((_, _, detail),) = await told(db, "login.failed")
        assert detail["reason"] == "wrong current password"


async def test_an_address_that_is_taken_answers_the_same_and_gets_nothing(
    runtime: Runtime, session: SignedIn
) -> None:
    await make_reachable(runtime, email="bob@example.com")
    taken, free = await change(session, "bob@example.com"), await change(session)
    assert (taken.status_code, taken.content) == (free.status_code, free.content)
    assert [each.to for each in await delivered(runtime)] == [NEW]


async def test_an_address_that_was_taken_meanwhile_is_refused(
    runtime: Runtime, session: SignedIn
) -> None:
    await change(session)
    mail = await only_mail(runtime)
    await make_reachable(runtime, email=NEW.upper())
    assert (await confirm(session, token_in(mail))).status_code == 409
    assert await address_of(session) == (ADDRESS, True)


async def test_an_application_that_was_let_in_changes_no_address(
    runtime: Runtime, client: httpx2.AsyncClient, alice: Someone
) -> None:
    app: Application = await register(runtime)
    browser = PersonsBrowser(client)
    await browser.sign_in(alice)
    let_in = await browser.let_in(app)
    answer = await change(let_in)
    assert answer.status_code == 403
    assert await delivered(runtime) == []
    # Nor does it see the address, unless it was let see it.
    me = (await client.get("/users/me", headers=let_in.header)).json()
    assert (me["email"], me["email_verified"]) == (None, False)


async def test_a_name_that_is_the_new_address_refuses_it(
    runtime: Runtime, session: SignedIn
) -> None:
    await make_user(runtime, username="New@example.com")
    await change(session)
    assert await delivered(runtime) == []


async def test_a_person_whose_own_name_is_the_new_address_may_have_it(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    session = await sign_in(client, await make_user(runtime, username=NEW))
    await change(session)
    await confirm(session, token_in(await only_mail(runtime)))
    assert await address_of(session) == (NEW, True)


async def test_a_first_address_is_confirmed_without_a_notice(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    session = await sign_in(client, await make_user(runtime))
    assert await address_of(session) == (None, False)
    await change(session)
    await confirm(session, token_in(await only_mail(runtime)))
    assert await address_of(session) == (NEW, True)
    assert await delivered(runtime) == []
    async with runtime.sessions() as db:
        assert len(await told(db, "email.verified")) == 1


async def test_after_signing_out_no_change_is_begun(
    runtime: Runtime, session: SignedIn, alice: Someone
) -> None:
    await session.client.delete("/users/me/sessions", headers=session.header)
    assert (await change(session)).status_code == 401
    assert (await login(session.client, alice)).status_code == 200


async def test_a_change_that_waits_for_its_mail_ends_with_the_password(
    runtime: Runtime, session: SignedIn
) -> None:
    assert (await change(session)).status_code == 202
    body = {"current_password": PASSWORD, "new_password": "another long password"}
    answer = await session.client.post("/users/me/password", json=body, headers=session.header)
    assert answer.status_code == 204
    assert await delivered(runtime) == []
