"""Imported hashes that cost far more than ours: no other login waits, however many come."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx2
import pytest
from passlib.hash import argon2
from sqlalchemy import update

from app.identity.foreign_hashes import check_hash
from app.identity.hash_kinds import known_hash
from app.identity.hash_queue import TooManyLogins
from app.identity.hash_threads import COMMANDS
from app.identity.models import User
from app.identity.passwords import OURS, PasswordHasher
from app.runtime import Runtime
from tests.support.factories import OPERATOR, PASSWORD, Someone, login, make_user
from tests.support.processes import until

# By its memory, and so it takes no longer than some others.
COSTLY = argon2.using(memory_cost=64 * 1024 + 8, time_cost=1).hash(PASSWORD)  # type: ignore[no-untyped-call]
BY_BCRYPT = "$2b$04$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
PHPASS = "$P$B55D6LjfHDkINU5wF.v2BuuzO0/XPk/"
KEY = "A" * 43


@pytest.fixture
async def hasher() -> AsyncIterator[PasswordHasher]:
    hasher = PasswordHasher(threads=2, queue=3)
    yield hasher
    hasher.close()


@contextmanager
def costly_held(hasher: PasswordHasher) -> Iterator[None]:
    """No costly hash is verified until the end: one is under way."""
    gate = threading.Event()
    busy = asyncio.ensure_future(hasher._costly.run(gate.wait))
    try:
        yield
    finally:
        gate.set()
        assert not busy.cancelled()


async def with_hash(runtime: Runtime, password_hash: str) -> Someone:
    """A person who has this hash."""
    someone = await make_user(runtime)
    changed = update(User).where(User.id == someone.id).values(password_hash=password_hash)
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(changed)
    return someone


@pytest.mark.parametrize(
    ("text", "costly"),
    [
        (COSTLY, True),
        (BY_BCRYPT.replace("$04$", "$13$"), False),
        (BY_BCRYPT.replace("$04$", "$14$"), True),
        (f"$wp{BY_BCRYPT.replace('$04$', '$12$')}", False),
        (f"$wp{BY_BCRYPT.replace('$04$', '$13$')}", True),
        (f"bcrypt_sha256${BY_BCRYPT.replace('$04$', '$14$')}", True),
        (f"pbkdf2_sha256$1200000$salt${KEY}=", False),
        (f"pbkdf2_sha256$1500001$salt${KEY}=", True),
        (f"$scrypt$ln=16,r=8,p=1$c2FsdA${KEY}", True),
        (f"scrypt:32768:8:1$salt${'0' * 128}", False),
        (f"$6$rounds=656000$salt${'/' * 86}", True),
        # Python computes these.
        (f"$5$salt${'/' * 43}", True),
        (f"$6$salt${'/' * 86}", True),
        (PHPASS, True),
        (f"{OURS.start}c2FsdCBvZiBhbm5h$LLONhTivlap8zru4GnpJwf6h79yxzdzZVJBijViAsvw", False),
    ],
)
def test_what_costs_far_more_than_ours_is_known(text: str, costly: bool) -> None:
    known = known_hash(check_hash(text))
    assert known
    assert known.costly() is costly


async def test_no_login_waits_for_hashes_that_cost_far_more(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    hasher = own_runtime.hasher
    imported = [await with_hash(own_runtime, COSTLY) for _ in range(4)]
    other = await make_user(own_runtime)
    with costly_held(hasher):
        waiting = [asyncio.ensure_future(login(own_client, each)) for each in imported]
        await until(lambda: hasher.waiting >= len(waiting))
        for _ in range(3):
            assert (await login(own_client, other)).status_code == 200
            assert (await login(own_client, other, password="wrong")).status_code == 400
        assert not any(each.done() for each in waiting)
    answers = await asyncio.gather(*waiting)
    assert [answer.status_code for answer in answers] == [200] * len(imported)
    # The first login upgrades the hash, so the next one does not wait there.
    with costly_held(hasher):
        assert (await login(own_client, imported[0])).status_code == 200


async def test_costly_hashes_are_verified_one_at_a_time(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most, verify = 0, 0, hasher._verify
    lock = threading.Lock()

    def counted(password: str, known: object) -> tuple[bool, str | None]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        try:
            return verify(password, known)  # type: ignore[arg-type]
        finally:
            with lock:
                under_way -= 1

    monkeypatch.setattr(hasher, "_verify", counted)
    answers = await asyncio.gather(*(hasher.verify(PASSWORD, COSTLY) for _ in range(3)))
    assert [correct for correct, _ in answers] == [True] * 3
    assert most == 1


async def test_a_login_by_two_spellings_costs_twice(hasher: PasswordHasher) -> None:
    text = BY_BCRYPT.replace("$04$", "$13$")
    with costly_held(hasher):
        waiting = asyncio.ensure_future(hasher.verify("wrong \u00b2", text))
        await until(lambda: hasher.waiting == 1)
        assert await hasher.verify("wrong", text) == (False, None)
        assert not waiting.done()
    assert await waiting == (False, None)


async def test_a_hash_that_python_computes_leaves_the_interpreter_to_others(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that the event loop wants it, it waits for this interval."""
    usual = sys.getswitchinterval()
    seen: list[float] = []

    def verify(*_: object) -> bool:
        seen.append(sys.getswitchinterval())
        return False

    for name in ("phpass", "sha256_crypt", "sha512_crypt"):
        monkeypatch.setattr(f"passlib.hash.{name}.verify", verify)
    for text in (PHPASS, f"$5$salt${'/' * 43}", f"$6$salt${'/' * 86}"):
        assert await hasher.verify(PASSWORD, text) == (False, None)
    assert len(seen) == 3
    assert max(seen) < 0.001
    assert sys.getswitchinterval() == pytest.approx(usual)


async def test_a_full_queue_of_costly_hashes_refuses_no_other_login(
    hasher: PasswordHasher,
) -> None:
    ours = await hasher.hash(PASSWORD, source=COMMANDS)
    with costly_held(hasher):
        waiting = [asyncio.ensure_future(hasher.verify(PASSWORD, COSTLY)) for _ in range(3)]
        await until(lambda: hasher.waiting >= 3)
        with pytest.raises(TooManyLogins):
            await hasher.verify(PASSWORD, COSTLY)
        assert hasher.refused == 1
        assert await hasher.verify(PASSWORD, ours) == (True, None)
        assert await hasher.verify(PASSWORD, None) == (False, None)
    assert all(correct for correct, _ in await asyncio.gather(*waiting))
