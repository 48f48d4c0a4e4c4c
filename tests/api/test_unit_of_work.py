"""Every write answers only once it is committed, and what fails leaves nothing."""

import httpx2
import pytest
from sqlalchemy import func, select, text

from app.errors import Conflict
from app.items.models import Item
from app.runtime import Runtime
from tests.factories import bearer, make_user

# A constraint that Postgres checks when everything else is done: in COMMIT itself.
FAIL_AT_COMMIT = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$",
    "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON items "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
)


class Kept(Conflict):
    """An error that must keep its writes."""

    keeps_writes = True


async def count_items(runtime: Runtime) -> int | None:
    async with runtime.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Item))


async def test_a_commit_that_fails_is_not_answered_201(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    token = await bearer(own_client, await make_user(own_runtime, "write:items"))

    async with own_runtime.unit_of_work() as session:
        for statement in FAIL_AT_COMMIT:
            await session.execute(text(statement))
    answer = await own_client.post("/items", json={"title": "Lamp"}, headers=token)
    assert answer.status_code == 409
    assert await count_items(own_runtime) == 0


async def test_an_answered_write_is_committed(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    token = await bearer(own_client, await make_user(own_runtime, "write:items"))
    answer = await own_client.post("/items", json={"title": "Lamp"}, headers=token)
    assert answer.status_code == 201
    assert await count_items(own_runtime) == 1


@pytest.mark.parametrize(("error", "kept"), [(Kept, 1), (Conflict, 0), (RuntimeError, 0)])
async def test_an_error_undoes_its_writes_unless_its_class_keeps_them(
    own_runtime: Runtime, error: type[Exception], kept: int
) -> None:
    owner = await make_user(own_runtime)

    async def write_and_fail() -> None:
        async with own_runtime.unit_of_work() as session:
            session.add(Item(owner_id=owner.id, title="Lamp", description=None))
            await session.flush()
            raise error("as it happens")

    with pytest.raises(error):
        await write_and_fail()
    assert await count_items(own_runtime) == kept
