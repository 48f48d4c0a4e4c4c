"""POST /sign-up, and what becomes of the accounts that are made so."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import select

from app.access.accounts import disable
from app.access.grants import grant
from app.identity.models import SignUp, User
from app.ops.housekeeping import prune
from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, Someone, bearer, login, make_user
from tests.support.letters import (
    ADDRESS,
    delivered,
    make_reachable,
    only_mail,
    open_to_all,
    token_in,
)

NEWCOMER = {"username": "newcomer", "email": ADDRESS, "password": PASSWORD}


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a service where people may sign up."""
    async with client_of(open_to_all(runtime)) as client:
        yield client


async def sign_up(client: httpx2.AsyncClient, **changes: str) -> httpx2.Response:
    return await client.post("/sign-up", json=NEWCOMER | changes)


async def confirm(client: httpx2.AsyncClient, token: str) -> httpx2.Response:
    return await client.post("/email-verification/confirm", json={"token": token})


async def user_named(runtime: Runtime, username: str) -> User | None:
    async with runtime.sessions() as db:
        return await db.scalar(select(User).where(User.username == username))


async def test_sign_up_is_off_until_a_setting_asks_for_it(runtime: Runtime) -> None:
    async with client_of(runtime) as client:
        answer = await sign_up(client)
        assert answer.status_code == 404
        assert "ask for an invitation" in answer.json()["detail"]
        assert (await client.get("/sign-up")).status_code == 404
        assert (await client.post("/create-account")).status_code == 404


async def test_an_account_works_once_its_address_is_confirmed(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    answer = await sign_up(client)
    assert (answer.status_code, answer.content) == (202, b"")
    newcomer = Someone((await found(runtime)).id, "newcomer")
    assert (await login(client, newcomer)).status_code == 400
    mail = await only_mail(runtime)
    assert (mail.template, mail.to, mail.user_id) == ("verify-email", ADDRESS, newcomer.id)
    assert (await confirm(client, token_in(mail))).status_code == 204
    me = (await client.get("/users/me", headers=await bearer(client, newcomer))).json()
    assert (me["email"], me["email_verified"]) == (ADDRESS, True)
    assert me["granted"] == ["read:items", "write:items"]
    async with runtime.sessions() as db:
        assert await told(db, "account.signed_up") == [(None, newcomer.id, {})]
        assert len(await told(db, "email.verified")) == 1
        grants = await told(db, "grant.made")
        assert [subject for _, subject, _ in grants] == [newcomer.id] * 2
        assert [detail for _, _, detail in grants] == [
            {"scope": "read:items", "expires_at": None},
            {"scope": "write:items", "expires_at": None},
        ]
        assert await db.scalar(select(SignUp)) is None


async def found(runtime: Runtime, username: str = "newcomer") -> User:
    user = await user_named(runtime, username)
    assert user is not None
    return user


async def test_what_an_account_holds_is_a_setting(runtime: Runtime) -> None:
    settings = open_to_all(runtime, sign_up_scopes=("read:audit", "not:registered"))
    async with client_of(settings) as client:
        assert (await sign_up(client)).status_code == 202
        await confirm(client, token_in(await only_mail(runtime)))
        tokens = await login(client, Someone((await found(runtime)).id, "newcomer"))
    assert tokens.json()["scope"] == "read:audit"


async def test_a_taken_name_is_told(runtime: Runtime, client: httpx2.AsyncClient) -> None:
    await make_user(runtime, username="Newcomer")
    assert (await sign_up(client)).status_code == 409
    assert await delivered(runtime) == []


async def test_a_taken_address_answers_the_same_and_tells_its_owner(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    owner = await make_reachable(runtime, email="Alice@Example.com")
    free = await sign_up(client, username="first", email="free@example.com")
    taken = await sign_up(client)
    assert (free.status_code, free.content) == (taken.status_code, taken.content)
    assert set(free.headers) == set(taken.headers)
    # Nor does the name tell it, which is taken in both cases.
    assert (await sign_up(client, username="first")).status_code == 409
    assert (await sign_up(client)).status_code == 409
    mails = await delivered(runtime)
    assert [
        (each.template, each.to, each.user_id) for each in mails if each.to != "free@example.com"
    ] == [("sign-up-taken", "Alice@example.com", owner.id)]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("username", "a@b.example", "no @"),
        ("username", "https://evil.example", "no slash"),
        ("username", "", "1 to 254 characters"),
        ("email", "nowhere", "not an e-mail address"),
        ("email", "a@b.example\nBcc: c@d.example", "not an e-mail address"),
        ("email", "a" * 100_000 + "@b.example", "not an e-mail address"),
        ("password", "short", "at least 8 bytes"),
        ("password", "password123", "most common"),
    ],
)
async def test_what_does_not_fit_is_told(
    runtime: Runtime, client: httpx2.AsyncClient, field: str, value: str, says: str
) -> None:
    answer = await sign_up(client, **{field: value})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert await user_named(runtime, "newcomer") is None


async def test_an_account_that_was_never_confirmed_is_erased_after_a_week(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    await sign_up(client)
    mail = await only_mail(runtime)
    clock.move(days=6, hours=23)
    await clear_away(runtime)
    assert await user_named(runtime, "newcomer")
    clock.move(hours=2)
    await clear_away(runtime)
    assert await user_named(runtime, "newcomer") is None
    async with runtime.sessions() as db:
        ((actor, _, detail),) = await told(db, "account.erased")
        assert (actor, detail) == (None, {"reason": "never confirmed"})
    assert (await confirm(client, token_in(mail))).status_code == 400
    assert (await sign_up(client)).status_code == 202


async def test_an_account_that_got_a_password_otherwise_stays(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock, root: dict[str, str]
) -> None:
    await sign_up(client)
    user = await found(runtime)
    set_ = await client.post(
        f"/users/{user.id}/password", json={"password": "another long password"}, headers=root
    )
    assert set_.status_code == 204
    # The password that they signed up with is not theirs any more, also when they confirm later.
    assert (await confirm(client, token_in(await only_mail(runtime)))).status_code == 204
    clock.move(days=8)
    await clear_away(runtime)
    newcomer = Someone(user.id, "newcomer")
    assert (await login(client, newcomer)).status_code == 400
    assert (await login(client, newcomer, password="another long password")).status_code == 200


async def test_another_link_replaces_the_first(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    await sign_up(client, username="Xaver")
    first = await only_mail(runtime)
    again = await client.post("/email-verification", json={"email": ADDRESS.upper()})
    assert (again.status_code, again.content) == (202, b"")
    second = await only_mail(runtime)
    assert second.to == ADDRESS
    assert (await confirm(client, token_in(first))).status_code == 400
    assert (await confirm(client, token_in(second))).status_code == 204
    assert (await confirm(client, token_in(second))).status_code == 400


async def test_a_name_brings_the_link_for_its_own_account(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    """However many others a stranger has made with the same address since."""
    for name in ("victim", "attacker-1", "attacker-2"):
        await sign_up(client, username=name)
    # The newest of all, with an address of its own.
    await sign_up(client, username="bystander", email="bystander@example.com")
    await delivered(runtime)
    assert (await client.post("/email-verification", json={"email": ADDRESS})).status_code == 202
    newest = await only_mail(runtime)
    assert newest.values["username"] == "attacker-2", "where no name is given"
    wish = {"email": ADDRESS, "username": "Victim"}
    assert (await client.post("/email-verification", json=wish)).status_code == 202
    mail = await only_mail(runtime)
    assert mail.values["username"] == "victim"
    async with runtime.work(OPERATOR) as work:
        victim = await user_named(runtime, "victim")
        assert victim is not None
        await disable(work, victim.id)
    assert (await client.post("/email-verification", json=wish)).status_code == 202
    assert await delivered(runtime) == [], "one that is disabled gets no link"
    wish["username"] = "no-one"
    assert (await client.post("/email-verification", json=wish)).status_code == 202
    assert await delivered(runtime) == []


async def test_requests_for_one_thing_leave_room_for_another(client: httpx2.AsyncClient) -> None:
    for _ in range(5):
        answer = await client.post("/email-verification", json={"email": ADDRESS})
        assert answer.status_code == 202
    answer = await client.post("/email-verification", json={"email": ADDRESS})
    assert answer.status_code == 429
    assert (await client.post("/password-reset", json={"email": ADDRESS})).status_code == 202


async def test_a_link_works_for_an_hour(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    await sign_up(client)
    mail = await only_mail(runtime)
    clock.move(hours=1, seconds=1)
    answer = await confirm(client, token_in(mail))
    assert answer.status_code == 400
    assert "its time is over" in answer.json()["detail"]


async def test_of_two_who_sign_up_with_one_address_the_one_who_reads_its_mail_gets_it(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    await sign_up(client, username="attacker")
    attackers = await only_mail(runtime)
    await sign_up(client, username="owner")
    owners = await only_mail(runtime)
    assert (await confirm(client, token_in(owners))).status_code == 204
    refused = await confirm(client, token_in(attackers))
    assert refused.status_code == 409
    assert (
        await login(client, Someone((await found(runtime, "attacker")).id, "attacker"))
    ).status_code == 400


async def test_an_unconfirmed_address_matches_nothing(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    await sign_up(client)
    await delivered(runtime)
    await client.post("/password-reset", json={"email": ADDRESS})
    assert await delivered(runtime) == []
    assert (await login(client, Someone((await found(runtime)).id, ADDRESS))).status_code == 400


async def test_requests_are_bounded_by_network_and_by_address(
    client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    for _ in range(5):
        answer = await client.post("/password-reset", json={"email": ADDRESS})
        assert answer.status_code == 202
    refused = await client.post("/password-reset", json={"email": ADDRESS.title()})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 120
    for number in range(15):
        other = await client.post("/password-reset", json={"email": f"x{number}@example.com"})
        assert other.status_code == (202 if number < 14 else 429), number
    clock.move(minutes=2)
    assert (await client.post("/password-reset", json={"email": ADDRESS})).status_code == 202


async def clear_away(runtime: Runtime) -> None:
    kept = timedelta(days=7)
    await prune(runtime.sessions, now=runtime.now(), kept=kept, audit_kept=timedelta(days=365))


async def test_grants_of_an_account_that_is_erased_unconfirmed_go_too(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    await sign_up(client)
    user = await found(runtime)
    async with runtime.work(OPERATOR) as work:
        await grant(work, user.id, "read:users")
    clock.move(days=8)
    await clear_away(runtime)
    assert await user_named(runtime, "newcomer") is None
