"""Holdings: what is granted now, of whom it is asked and of nobody else."""

from datetime import timedelta

from app.access.authority import OPERATOR
from app.access.grants import grant
from app.access.holdings import grants_of, scopes_of_each
from app.runtime import Runtime
from tests.clock import MovableClock
from tests.factories import make_user


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


async def test_one_users_grants_are_told_in_order_page_by_page(
    runtime: Runtime, clock: MovableClock
) -> None:
    user = await make_user(runtime, "write:items", "read:items", "admin")
    await make_user(runtime, "read:users")
    end = clock() + timedelta(hours=1)
    async with runtime.work(OPERATOR) as work:
        await grant(work, user.id, "write:users", expires_at=end)
    clock.move(hours=1)
    async with runtime.sessions() as db:
        first = await grants_of(db, user.id, limit=2, now=clock())
        rest = await grants_of(db, user.id, after=first[-1].scope, now=clock())
    assert [each.scope for each in first] == ["admin", "read:items"]
    assert [each.scope for each in rest] == ["write:items"]
    assert {each.user_id for each in first + rest} == {user.id}
