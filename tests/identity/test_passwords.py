"""Passwords: which are accepted, how they are hashed, and that the hashing is bounded."""

import asyncio
import os
import sys
import threading
from functools import partial

import pytest
from passlib.context import CryptContext
from passlib.hash import bcrypt

from app.identity.hash_queue import CallerGone, TooManyLogins
from app.identity.hash_threads import COMMANDS
from app.identity.passwords import (
    OURS,
    PasswordHasher,
    WeakPassword,
    check_password,
    normalise_password,
)
from tests.support.factories import PASSWORD
from tests.support.processes import PATIENCE, until

WEAK_ARGON2 = CryptContext(
    ["argon2"], argon2__memory_cost=1024, argon2__time_cost=1, argon2__parallelism=1
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
    hashed = await hasher.hash(PASSWORD, source=COMMANDS)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.verify(PASSWORD, hashed) == (True, None)
    assert await hasher.verify(PASSWORD + "x", hashed) == (False, None)


async def test_nobodys_hash_costs_what_anybodys_does(hasher: PasswordHasher) -> None:
    hashed = await hasher.hash(PASSWORD, source=COMMANDS)
    assert OURS.dummy.split("$")[:4] == hashed.split("$")[:4]
    assert len(OURS.dummy) == len(hashed)


async def test_every_spelling_of_a_password_is_the_same(hasher: PasswordHasher) -> None:
    hashed = await hasher.hash(check_password("cafe\u0301 noir", username="x"), source=COMMANDS)
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


async def test_past_the_queue_logins_are_refused_at_once(hasher: PasswordHasher) -> None:
    gate = threading.Event()
    waiting = [asyncio.ensure_future(hasher._threads.run(gate.wait)) for _ in range(5)]
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
    ran_in = await hasher._threads.run(threading.current_thread)
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
    under_way = [
        asyncio.ensure_future(hasher._threads.run(partial(hashing, each), gone)) for each in begun
    ]
    await until(lambda: all(each.is_set() for each in begun))
    hashed: list[int] = []
    queued = [
        asyncio.ensure_future(hasher._threads.run(partial(hashed.append, n), gone))
        for n in range(3)
    ]
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
    priority = await hasher._threads.run(
        lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    )
    assert priority > os.getpriority(os.PRIO_PROCESS, 0)


def test_what_is_nobodys_password_for_its_length_is_not_normalised() -> None:
    """It would take seconds, by the square of the length, and stop everything else."""
    endless = "a" + "\u0315\u0300" * 10_000
    assert normalise_password(endless) is None
    with pytest.raises(WeakPassword, match="at most"):
        check_password(endless, username="alice")
    longest = "\u03b1\u0313\u0300\u0345" * 341
    assert check_password(longest, username="alice") == "\u1f82" * 341
