"""Holdings: what is granted now, of whom it is asked and of nobody else."""

import uuid
from datetime import timedelta

from app.access.client_limits import ClientLimit
from app.access.holdings import issuable_scopes, scopes_of_each
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.factories import make_user


async def test_what_each_of_several_users_holds_now_is_told_by_name(
    runtime: Runtime, clock: MovableClock
) -> None:
    one = await make_user(runtime, "write:items", "read:items", "admin")
    nobody = await make_user(runtime)
    await make_user(runtime, "read:items")
    end = clock() + timedelta(hours=1)
    brief = await make_user(runtime, "read:items", expires_at=end)
    asked = [one.id, nobody.id, brief.id]
    held = {one.id: ["admin", "read:items", "write:items"], nobody.id: [], brief.id: ["read:items"]}
    async with runtime.sessions() as db:
        assert await scopes_of_each(db, asked, now=end - timedelta(microseconds=1)) == held
        assert await scopes_of_each(db, asked, now=end) == {**held, brief.id: []}


async def test_a_registered_clients_tokens_keep_their_scopes_and_those_of_openid_connect(
    runtime: Runtime,
) -> None:
    agreed = frozenset({"read:items", "write:items", "openid"})
    limit = ClientLimit(uuid.uuid4(), trusted=False, ceiling=None, consented=agreed)
    async with runtime.reading() as db:
        issuable = await issuable_scopes(
            db,
            {"read:items": None, "read:users": None},
            requested=None,
            within=agreed,
            limit=limit,
        )
    assert issuable.scopes == {"read:items", "openid"}
