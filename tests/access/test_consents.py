"""Consents: what is taken back is one's own with one client, and what is implied is never less."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.access.client_registry import change_client, delete_client
from app.access.consents import (
    MOST_HOSTS,
    USE_NOTED_AFTER,
    ApplicationNotFound,
    covers,
    find_consent,
    give_consent,
    imply_consent,
    list_applications,
    note_use,
    withdraw_consent,
)
from app.db.work import Actor
from app.identity.models import Consent, Registration, Session
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.browsing import register
from tests.support.factories import OPERATOR, add_session, make_user
from tests.support.locks import until_waiting

HOST = "app.example"


async def registration(runtime: Runtime, client_id: str) -> Registration:
    async with runtime.reading() as db:
        found = select(Registration).where(
            Registration.client_id == client_id, Registration.deleted_at.is_(None)
        )
        return (await db.scalars(found)).one()


async def consents(runtime: Runtime) -> dict[tuple[uuid.UUID, uuid.UUID], list[str]]:
    async with runtime.reading() as db:
        rows = await db.scalars(select(Consent))
        return {(row.user_id, row.registration_id): row.scopes for row in rows}


async def agree(
    runtime: Runtime, user_id: uuid.UUID, app: Registration, *, host: str = HOST
) -> None:
    """The person is asked for one scope, and says yes."""
    async with runtime.work(acting(user_id)) as work:
        await give_consent(work, app, shown={"read:items"}, allowed={"read:items"}, host=host)


def acting(user_id: uuid.UUID) -> Actor:
    return OPERATOR.signed_in_as(user_id)


async def test_taking_back_ends_ones_own_consent_with_that_client_alone_and_is_told(
    own_runtime: Runtime,
) -> None:
    one, two = await make_user(own_runtime), await make_user(own_runtime)
    for client_id in ("first", "second"):
        await register(own_runtime, client_id)
    apps = [await registration(own_runtime, each) for each in ("first", "second")]
    for user in (one, two):
        for app in apps:
            await agree(own_runtime, user.id, app)
    kept = await consents(own_runtime)
    assert len(kept) == 4

    async with own_runtime.work(acting(two.id)) as work:
        await withdraw_consent(work, "second")

    del kept[two.id, apps[1].id]
    assert await consents(own_runtime) == kept
    async with own_runtime.reading() as db:
        entries = await told(db, "consent.withdrawn")
    assert entries == [(two.id, two.id, {"client_id": "second"})]


async def test_of_two_who_take_a_consent_back_at_once_one_finds_it(own_runtime: Runtime) -> None:
    user = await make_user(own_runtime)
    await register(own_runtime, "app")
    await agree(own_runtime, user.id, await registration(own_runtime, "app"))

    async def withdraw() -> None:
        async with own_runtime.work(acting(user.id)) as work:
            await withdraw_consent(work, "app")

    async with own_runtime.work(acting(user.id)) as work:
        await withdraw_consent(work, "app")
        second = asyncio.create_task(withdraw())
        await until_waiting(own_runtime, "advisory")
    with pytest.raises(ApplicationNotFound):
        await second
    async with own_runtime.reading() as db:
        assert len(await told(db, "consent.withdrawn")) == 1


async def test_of_two_who_agree_at_once_both_count(own_runtime: Runtime) -> None:
    user = await make_user(own_runtime)
    await register(own_runtime, "app")
    app = await registration(own_runtime, "app")

    async def give(scope: str) -> None:
        async with own_runtime.work(acting(user.id)) as work:
            await give_consent(work, app, shown={scope}, allowed={scope}, host=HOST)

    async with own_runtime.work(acting(user.id)) as work:
        await give_consent(work, app, shown={"a"}, allowed={"a"}, host=HOST)
        second = asyncio.create_task(give("b"))
        await until_waiting(own_runtime, "advisory")
    await second
    assert await consents(own_runtime) == {(user.id, app.id): ["a", "b"]}


async def test_a_client_that_is_not_there_any_more_is_not_let_in(runtime: Runtime) -> None:
    user = await make_user(runtime)
    await register(runtime, "deleted")
    await agree(runtime, user.id, await registration(runtime, "deleted"))
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, "deleted")
    async with runtime.work(acting(user.id)) as work:
        for client_id in ("never-registered", "deleted"):
            with pytest.raises(ApplicationNotFound):
                await withdraw_consent(work, client_id)


async def test_a_session_whose_consent_was_taken_back_says_so(runtime: Runtime) -> None:
    user = await make_user(runtime)
    await register(runtime, "app")
    app = await registration(runtime, "app")
    await agree(runtime, user.id, app)
    consent = await consent_of(runtime, user.id, app)
    async with runtime.work(acting(user.id)) as work:
        session_id = await add_session(work, user.id, lifetime=timedelta(hours=1))
        (await work.db.get_one(Session, session_id)).consent_id = consent.id
    async with runtime.work(acting(user.id)) as work:
        await withdraw_consent(work, "app")
        ended = {"session": str(session_id), "reason": "consent withdrawn"}
        assert await told(work.db, "session.ended") == [(user.id, user.id, ended)]


async def test_what_a_trusted_client_may_do_grows_and_what_was_agreed_to_stays_agreed(
    runtime: Runtime,
) -> None:
    user = await make_user(runtime)
    await register(runtime, "trusted", trusted=True)
    app = await registration(runtime, "trusted")
    for asked, held in (
        ({"read:items"}, ["read:items"]),
        ({"write:items"}, ["read:items", "write:items"]),
        ({"read:items"}, ["read:items", "write:items"]),
    ):
        async with runtime.work(acting(user.id)) as work:
            consent = await imply_consent(work, app, asked)
            assert (consent.scopes, consent.implied) == (held, True)
    async with runtime.work(acting(user.id)) as work:
        both = {"read:items", "write:items"}
        await give_consent(work, app, shown=both, allowed=both, host=HOST)
        consent = await imply_consent(work, app, both)
        assert not consent.implied, "the person was asked for as much"


async def consent_of(runtime: Runtime, user_id: uuid.UUID, app: Registration) -> Consent:
    async with runtime.reading() as db:
        found = select(Consent).where(Consent.user_id == user_id, Consent.registration_id == app.id)
        return (await db.scalars(found)).one()


@pytest.mark.parametrize(
    ("scopes", "implied", "hosts", "is_covered"),
    [
        (["read:items", "write:items"], False, [HOST], True),
        (["read:items"], False, [HOST], False),
        (["read:items", "write:items"], True, [HOST], False),
        (["read:items", "write:items"], False, ["other.example"], False),
        (["admin"], False, [HOST], True),
    ],
)
def test_only_a_person_who_was_asked_for_as_much_there_has_agreed(
    scopes: list[str], implied: bool, hosts: list[str], is_covered: bool
) -> None:
    consent = Consent(scopes=scopes, implied=implied, hosts=hosts)
    assert covers(consent, {"read:items", "write:items"}, host=HOST) == is_covered
    assert not covers(consent, {"openid"}, host=HOST), "which admin does not stand for"


async def test_what_was_implied_ends_with_the_trust_and_what_was_agreed_to_does_not(
    runtime: Runtime,
) -> None:
    user = await make_user(runtime)
    await register(runtime, "trusted-once", trusted=True)
    app = await registration(runtime, "trusted-once")
    async with runtime.work(acting(user.id)) as work:
        await imply_consent(work, app, {"read:items", "write:items"})
    async with runtime.work(acting(user.id)) as work:
        asked = {"read:items"}
        consent = await give_consent(work, app, shown=asked, allowed=asked, host=HOST)
        assert consent.implied, "they were not asked for all of it"
        assert consent.scopes == ["read:items", "write:items"]
        asked = {"read:items", "write:items"}
        consent = await give_consent(work, app, shown=asked, allowed=asked, host=HOST)
        assert not consent.implied
        consent.implied = True
        app.trusted = False
        asked = {"read:items"}
        consent = await give_consent(work, app, shown=asked, allowed=asked, host=HOST)
        assert (consent.scopes, consent.implied) == (["read:items"], False)


async def test_hosts_are_remembered_once_each_and_the_last_of_them(runtime: Runtime) -> None:
    user = await make_user(runtime)
    await register(runtime, "many-hosts")
    app = await registration(runtime, "many-hosts")
    hosts = [f"{n}.example" for n in range(MOST_HOSTS + 1)]
    for host in [*hosts, hosts[5]]:
        await agree(runtime, user.id, app, host=host)
    hosts.remove("5.example")
    assert (await consent_of(runtime, user.id, app)).hosts == [*hosts[1:], "5.example"]


async def test_a_use_is_noted_to_the_minute_on_its_own_consent_alone(runtime: Runtime) -> None:
    user = await make_user(runtime)
    apps = []
    for client_id in ("used", "unused"):
        await register(runtime, client_id)
        apps.append(await registration(runtime, client_id))
        await agree(runtime, user.id, apps[-1])
    used = await consent_of(runtime, user.id, apps[0])
    given = used.last_used_at
    for after, noted in (
        (USE_NOTED_AFTER / 2, given),
        (USE_NOTED_AFTER * 2, given + USE_NOTED_AFTER * 2),
    ):
        async with runtime.work(acting(user.id)) as work:
            await note_use(replace(work, now=given + after), used.id)
        assert (await consent_of(runtime, user.id, apps[0])).last_used_at == noted
    assert (await consent_of(runtime, user.id, apps[1])).last_used_at < given + USE_NOTED_AFTER


async def test_a_person_s_applications_are_listed_by_their_ids_a_page_at_a_time(
    runtime: Runtime,
) -> None:
    user, another = await make_user(runtime), await make_user(runtime)
    for client_id in ("list-c", "list-a", "list-b", "list-deleted", "list-others"):
        await register(runtime, client_id, trusted=client_id == "list-b")
        app = await registration(runtime, client_id)
        person = another if client_id == "list-others" else user
        if app.trusted:
            async with runtime.work(acting(person.id)) as work:
                await imply_consent(work, app, {"a"})
        else:
            await agree(runtime, person.id, app)
    async with runtime.work(OPERATOR) as work:
        await delete_client(work, "list-deleted")

    async def page(after: str | None, limit: int) -> list[str]:
        async with runtime.reading() as db:
            found = await list_applications(db, user.id, after=after, limit=limit)
            return [each.client_id for each in found]

    assert await page(None, 10) == ["list-a", "list-b", "list-c"]
    assert await page(None, 2) == ["list-a", "list-b"]
    assert await page("list-b", 10) == ["list-c"]
    async with runtime.work(OPERATOR) as work:
        await change_client(work, "list-b", {"trusted": False})
    assert await page(None, 10) == ["list-a", "list-c"], "what is only implied ends with the trust"


async def test_what_another_transaction_wrote_counts(runtime: Runtime) -> None:
    user = await make_user(runtime)
    await register(runtime, "asked-twice")
    app = await registration(runtime, "asked-twice")
    async with runtime.work(acting(user.id)) as work:
        await give_consent(work, app, shown={"a"}, allowed={"a"}, host=HOST)
    async with runtime.work(acting(user.id)) as work:
        seen = await find_consent(work.db, user.id, app.id)
        assert seen is not None
        async with runtime.work(acting(user.id)) as other:
            await give_consent(other, app, shown={"b"}, allowed={"b"}, host=HOST)
        consent = await give_consent(work, app, shown={"c"}, allowed={"c"}, host=HOST)
        assert consent.scopes == ["a", "b", "c"]
