"""Holdings: what is granted now, of whom it is asked and of nobody else."""

from datetime import timedelta

from app.access.holdings import scopes_of_each
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
