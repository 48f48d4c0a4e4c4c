"""Names of erased accounts: taken for 30 days, and known by keyed digests alone."""

from dataclasses import replace
from io import BytesIO

import httpx2
import pytest
from sqlalchemy import select

from app.crypto import KeyedDigests
from app.identity.erased_names import NAMES_KEPT
from app.identity.models import ErasedName
from app.ops.imports import import_people
from app.runtime import Runtime
from tests.conftest import SECRET
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD, bearer, make_user
from tests.support.housekeeping import house

LATIN, CYRILLIC = "paypal", "р\u0430yp\u0430l"


async def erase(runtime: Runtime, client: httpx2.AsyncClient, username: str) -> None:
    """Make an account of this name, and erase it."""
    user = await make_user(runtime, username=username)
    root = await bearer(client, await make_user(runtime, "admin"))
    assert (await client.delete(f"/users/{user.id}", headers=root)).status_code == 204


async def attempt(runtime: Runtime, client: httpx2.AsyncClient, username: str) -> list[int]:
    """What making an account of this name, making a service and renaming are answered."""
    header = await bearer(client, await make_user(runtime, "admin"))
    other = await make_user(runtime)
    answers = [
        await client.patch(f"/users/{other.id}", json={"username": username}, headers=header)
    ]
    for body in ({"password": PASSWORD}, {"kind": "service"}):
        new = {"username": username, **body}
        answers.append(await client.post("/users", json=new, headers=header))
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json() == {"detail": "That username is taken: choose another."}
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("spelling", ["Mirabella", "mirabella", "ＭIRABELLA"])
async def test_a_name_stays_taken_for_30_days_in_every_spelling_and_is_free_then(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock, spelling: str
) -> None:
    await erase(runtime, client, "Mirabella")
    assert await attempt(runtime, client, spelling) == [409, 409, 409]
    clock.move(days=29, hours=23)
    assert await attempt(runtime, client, spelling) == [409, 409, 409]
    clock.move(hours=2)
    assert (await attempt(runtime, client, spelling))[0] == 200


@pytest.mark.parametrize(("erased", "new"), [(LATIN, CYRILLIC), (CYRILLIC, LATIN)])
async def test_so_does_what_looks_like_it(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock, erased: str, new: str
) -> None:
    await erase(runtime, client, erased)
    assert 200 not in await attempt(runtime, client, new)
    assert 201 not in await attempt(runtime, client, new)
    clock.move(days=31)
    assert (await attempt(runtime, client, new))[0] == 200


async def test_two_ascii_names_never_count_as_alike(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    await erase(runtime, client, "bill")
    assert (await attempt(runtime, client, "bi11"))[0] == 200


async def test_an_import_refuses_the_row(
    own_runtime: Runtime, own_client: httpx2.AsyncClient
) -> None:
    await erase(own_runtime, own_client, "mirabella")
    rows = f"username,password\nMirabella,{PASSWORD}\nbob,{PASSWORD}\n"
    report = await import_people(
        own_runtime, BytesIO(rows.encode()), by=OPERATOR, progress=lambda _: None
    )
    assert report.made == 1
    (refusal,) = report.refused
    assert "taken" in str(refusal)


async def test_a_name_is_recognised_after_the_secret_was_rotated(
    runtime: Runtime, client: httpx2.AsyncClient
) -> None:
    await erase(runtime, client, "mirabella")
    from tests.conftest import client_of

    for keys, expected in ((["a-new-secret-" + "x" * 32, SECRET], 409), (["y" * 40], 200)):
        database = replace(runtime.database, digests=KeyedDigests(keys))
        rotated = replace(runtime, database=database)
        async with client_of(rotated) as other:
            assert (await attempt(rotated, other, "mirabella"))[0] == expected, keys


async def test_digests_tell_nothing_without_the_secret_and_go_after_30_days(
    own_runtime: Runtime, own_client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    """The same name under another secret has another digest: a dump alone can't be searched."""
    await erase(own_runtime, own_client, "mirabella")
    digests = await kept(own_runtime)
    assert len(digests) == 2
    others = KeyedDigests(["another secret of the same length"])
    for purpose in (b"erased name", b"erased ASCII name looks", b"erased name looks"):
        assert others.make(purpose, b"mirabella") not in digests
    clock.move(seconds=NAMES_KEPT.total_seconds() - 60)
    await house(own_runtime.sessions, now=clock())
    assert await kept(own_runtime) == digests
    clock.move(seconds=120)
    await house(own_runtime.sessions, now=clock())
    assert await kept(own_runtime) == set()


async def kept(runtime: Runtime) -> set[bytes]:
    async with runtime.sessions() as db:
        return set(await db.scalars(select(ErasedName.digest)))


async def test_a_name_that_is_erased_again_stays_taken_from_then_on(
    runtime: Runtime, client: httpx2.AsyncClient, clock: MovableClock
) -> None:
    await erase(runtime, client, "mirabella")
    clock.move(days=31)
    await erase(runtime, client, "mirabella")
    clock.move(days=29)
    assert (await attempt(runtime, client, "mirabella"))[0] == 409
