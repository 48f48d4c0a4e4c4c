"""Consents: what is taken back is one's own with one client, and what is implied is never less."""

import uuid

import pytest
from sqlalchemy import select

from app.access.consents import (
    ApplicationNotFound,
    give_consent,
    imply_consent,
    withdraw_consent,
)
from app.db.work import Actor
from app.identity.models import Consent, Registration
from app.runtime import Runtime
from tests.support.audit import told
from tests.support.browsing import register
from tests.support.factories import OPERATOR, make_user

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
            async with own_runtime.work(acting(user.id)) as work:
                await give_consent(
                    work, app, shown={"read:items"}, allowed={"read:items"}, host=HOST
                )
    kept = await consents(own_runtime)
    assert len(kept) == 4

    async with own_runtime.work(acting(two.id)) as work:
        await withdraw_consent(work, "second")

    del kept[two.id, apps[1].id]
    assert await consents(own_runtime) == kept
    async with own_runtime.reading() as db:
        entries = await told(db, "consent.withdrawn")
    assert entries == [(two.id, two.id, {"client_id": "second"})]


async def test_a_client_that_is_not_there_any_more_is_not_let_in(runtime: Runtime) -> None:
    user = await make_user(runtime)
    async with runtime.work(acting(user.id)) as work:
        with pytest.raises(ApplicationNotFound):
            await withdraw_consent(work, "never-registered")


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
