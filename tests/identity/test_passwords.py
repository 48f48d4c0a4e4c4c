"""Passwords: which are accepted, how they are hashed, and that the hashing is bounded."""

import asyncio
import os
import sys
import threading
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from passlib.context import CryptContext
from passlib.hash import bcrypt

from app.errors import Refused
from app.identity.hash_queue import CallerGone, TooManyLogins
from app.identity.passwords import (
    DUMMY_HASH,
    PasswordHasher,
    WeakPassword,
    check_hash,
    check_password,
    normalise_password,
)
from tests.support.factories import PASSWORD
from tests.support.processes import PATIENCE, until

WEAK_ARGON2 = CryptContext(
    ["argon2"], argon2__memory_cost=1024, argon2__time_cost=1, argon2__parallelism=1
)
BOTH = CryptContext(["argon2", "bcrypt"])
BY_BCRYPT = "$2b$04$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"
BY_ARGON2 = (
    "$argon2id$v=19$m=16,t=2,p=2$c2FsdCBvZiBhbm5h$LLONhTivlap8zru4GnpJwf6h79yxzdzZVJBijViAsvw"
)


@pytest.fixture
def hasher() -> PasswordHasher:
    return PasswordHasher(threads=2, queue=3)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("seven77", "at least 8"),
        ("x" * 1025, "at most 1024"),
        ("ß" * 513, "at most 1024"),
        ("alice@example.org", "username"),
        ("ALICE@example.org", "username"),
        ("password1", "common"),
        ("PassWord1", "common"),
        ("ｐａｓｓｗｏｒｄ１", "common"),
        ("nul\0nul\0nul", "NUL"),
        ("broken \ud800 text", "broken"),
    ],
)
def test_unfit_passwords_are_refused_with_the_reason(password: str, why: str) -> None:
    with pytest.raises(WeakPassword, match=why):
        check_password(password, username="alice@example.org")


def test_long_and_unicode_passwords_are_accepted() -> None:
    for password in ("x7" * 512, "schloß-tür-ähre", "🐎🔋📎"):
        assert check_password(password, username="alice")


async def test_hashes_are_argon2id_at_owasps_figures(hasher: PasswordHasher) -> None:
    hashed = await hasher.hash(PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.verify(PASSWORD, hashed) == (True, None)
    assert await hasher.verify(PASSWORD + "x", hashed) == (False, None)


async def test_nobodys_hash_costs_what_anybodys_does(hasher: PasswordHasher) -> None:
    hashed = await hasher.hash(PASSWORD)
    assert DUMMY_HASH.split("$")[:4] == hashed.split("$")[:4]
    assert len(DUMMY_HASH) == len(hashed)


async def test_every_spelling_of_a_password_is_the_same(hasher: PasswordHasher) -> None:
    hashed = await hasher.hash(check_password("cafe\u0301 noir", username="x"))
    assert await hasher.verify("caf\u00e9 noir", hashed) == (True, None)


async def test_bcrypt_and_weaker_argon2_verify_and_are_upgraded(hasher: PasswordHasher) -> None:
    long = "x" * 80
    for old, password in (
        (bcrypt.using(rounds=4).hash(PASSWORD), PASSWORD),
        (bcrypt.using(rounds=4).hash(long[:72]), long),
        (WEAK_ARGON2.hash(PASSWORD), PASSWORD),
    ):
        assert await hasher.verify("wrong " + password, old) == (False, None)
        correct, renewed = await hasher.verify(password, old)
        assert correct
        assert renewed
        assert await hasher.verify(password, renewed) == (True, None)


@pytest.mark.parametrize("stored", [None, "", "garbage", "$2b$12$short"])
async def test_no_hash_or_a_broken_one_is_a_wrong_password(
    hasher: PasswordHasher, stored: str | None
) -> None:
    assert await hasher.verify(PASSWORD, stored) == (False, None)


def argon2_of(memory: int, passes: int, lanes: int) -> str:
    return BY_ARGON2.replace("m=16,t=2,p=2", f"m={memory},t={passes},p={lanes}")


@pytest.mark.parametrize(
    "password_hash",
    [
        BY_BCRYPT,
        *(BY_BCRYPT.replace("$2b$04$", start) for start in ("$2a$13$", "$2y$10$")),
        BY_ARGON2,
        *(BY_ARGON2.replace("argon2id$v=19", start) for start in ("argon2d", "argon2i$v=16")),
        argon2_of(262_144, 3, 16),
        argon2_of(128, 32, 16),
    ],
)
def test_hashes_from_elsewhere_are_taken_as_they_are(password_hash: str) -> None:
    assert check_hash(password_hash) == password_hash


@pytest.mark.parametrize(
    ("password_hash", "why"),
    [
        *((BY_BCRYPT.replace("$04$", f"${rounds}$"), "costs more") for rounds in (14, 31)),
        (argon2_of(262_145, 1, 1), "costs more"),
        (argon2_of(262_144, 4, 1), "costs more"),
        (argon2_of(16, 33, 1), "costs more"),
        (argon2_of(136, 1, 17), "costs more"),
        (argon2_of(134_217_720, 1, 16_777_215), "costs more"),
        (argon2_of(15, 2, 2), "less memory"),
        (argon2_of(0, 2, 2), "broken"),
        (argon2_of(16, 0, 2), "broken"),
        (argon2_of(16, 2, 0), "broken"),
        (BY_ARGON2.replace("p=2", "p=2,keyid=AAAA,data=AAAA"), "broken"),
        (BY_ARGON2.replace("v=19", "v=20"), "broken"),
        (BY_ARGON2.replace("c2FsdCBvZiBhbm5h", "c2FsdCBvZg"), "broken"),
        (BY_ARGON2[: BY_ARGON2.rindex("$")] + "$LLONhTivlap8zru4Gnpg", "broken"),
        *((each + "\0", "broken") for each in (BY_BCRYPT, BY_ARGON2)),
        *((each + "\n", "broken") for each in (BY_BCRYPT, BY_ARGON2)),
        *((each[:-1], "broken") for each in (BY_BCRYPT, BY_ARGON2)),
        (BY_BCRYPT.replace("$04$", "$03$"), "broken"),
        # Bits that no salt and no digest has.
        (BY_BCRYPT.replace("kh2O", "kh2P"), "broken"),
        (BY_BCRYPT[:-1] + "X", "broken"),
        (BY_ARGON2[:-1] + "x", "broken"),
        (argon2_of(16, 2, 2).replace("m=16", "m=016"), "broken"),
        (BY_BCRYPT.replace("$2b$", "$2x$"), "not a hash by"),
        ("$5$rounds=1000$salt$sha", "not a hash by"),
        ("\udc80", "not a hash by"),
        ("", "not a hash by"),
    ],
)
def test_hashes_that_a_login_can_or_may_not_be_checked_by_are_refused(
    password_hash: str, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        check_hash(password_hash)


@st.composite
def mutated_hashes(draw: st.DrawFn) -> str:
    """A hash with a few pieces of it replaced by others."""
    text = draw(st.sampled_from([BY_BCRYPT, BY_ARGON2]))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 4))
        piece = st.text("$,=mtpv0123456789aA./+\0\n", max_size=3) | st.text(max_size=2)
        text = text[:start] + draw(piece) + text[end:]
    return text


@settings(max_examples=500, deadline=None)
@given(mutated_hashes())
@example(BY_BCRYPT)
@example(BY_ARGON2)
def test_whatever_hash_is_not_refused_a_password_can_be_checked_by(password_hash: str) -> None:
    try:
        check_hash(password_hash)
    except Refused:
        return
    assert not BOTH.verify("not the password", password_hash)


async def test_past_the_queue_logins_are_refused_at_once(hasher: PasswordHasher) -> None:
    gate = threading.Event()
    waiting = [asyncio.ensure_future(hasher._run(gate.wait)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLogins):
        await hasher.verify(PASSWORD, None)
    assert hasher.waiting == 3
    waiting[-1].cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert await hasher.verify(PASSWORD, None) == (False, None)
    hasher.close()


async def test_the_event_loop_runs_on_while_a_password_is_hashed(hasher: PasswordHasher) -> None:
    ran_in = await hasher._run(threading.current_thread)
    assert ran_in is not threading.current_thread()
    assert ran_in.name.startswith("password-hash")


async def test_whoever_hangs_up_leaves_the_queue_and_is_never_hashed(
    hasher: PasswordHasher,
) -> None:
    gate, begun = threading.Event(), [threading.Event(), threading.Event()]

    def hashing(mine: threading.Event) -> bool:
        mine.set()
        return gate.wait()

    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    under_way = [asyncio.ensure_future(hasher._run(partial(hashing, each), gone)) for each in begun]
    await until(lambda: all(each.is_set() for each in begun))
    hashed: list[int] = []
    queued = [asyncio.ensure_future(hasher._run(partial(hashed.append, n), gone)) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLogins):
        await hasher.verify(PASSWORD, None)
    gone.set_result(None)
    for each in queued:
        with pytest.raises(CallerGone):
            await asyncio.wait_for(each, PATIENCE)
    others = [asyncio.ensure_future(hasher.verify(PASSWORD, None)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLogins):
        await hasher.verify(PASSWORD, None)
    gate.set()
    assert await asyncio.gather(*under_way) == [True, True], "what had begun was ended"
    assert await asyncio.gather(*others) == [(False, None)] * 3
    assert hashed == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is a process's")
async def test_hashing_gives_way_to_whoever_answers_others(hasher: PasswordHasher) -> None:
    priority = await hasher._run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert priority > os.getpriority(os.PRIO_PROCESS, 0)


def test_what_is_nobodys_password_for_its_length_is_not_normalised() -> None:
    """It would take seconds, by the square of the length, and stop everything else."""
    endless = "a" + "\u0315\u0300" * 10_000
    assert normalise_password(endless) is None
    with pytest.raises(WeakPassword, match="at most"):
        check_password(endless, username="alice")
    longest = "\u03b1\u0313\u0300\u0345" * 341
    assert check_password(longest, username="alice") == "\u1f82" * 341
