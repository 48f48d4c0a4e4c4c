"""Passwords that NFKC changes: hashes of what was typed elsewhere verify too, at constant work."""

import unicodedata
from collections.abc import AsyncIterator

import httpx2
import pytest
from passlib.hash import argon2, bcrypt
from sqlalchemy import select, update

from app.identity.hash_threads import COMMANDS
from app.identity.models import User
from app.identity.passwords import MAX_PASSWORD_BYTES, PasswordHasher, spellings
from app.runtime import Runtime
from tests.support.factories import OPERATOR, PASSWORD, login, make_user
from tests.support.hashing import QUICK

OURS = argon2.using(type="ID", memory_cost=QUICK.memory, time_cost=QUICK.passes, parallelism=1)  # type: ignore[no-untyped-call]
TYPED = {
    "umlauts in NFD": "Gru\u0308\u00dfe-aus-Ko\u0308ln",
    "superscript": "E=mc\u00b2-forever",
    "trademark": "MyBrand\u21222019!",
    "no-break space": "non\u00a0breaking\u00a0space",
    "full width": "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44-\uff11\uff12\uff13",
    "Hangul in NFD": unicodedata.normalize("NFD", "\ube44\ubc00\ubc88\ud638-\ud558\ub098"),
    "ellipsis": "wait\u2026what-is-this",
    "one half": "half\u00bdlitre-please",
    "ligature": "e\ufb03cient-password",
    "ordinal": "1\u00aa-vez-en-espan\u0303a",
    "Kelvin": "300\u212a-is-warm-enough",
    "half-width katakana": "\uff8a\uff9f\uff7d\uff9c\uff70\uff84\uff9e-desu",
    "circled digits": "\u2460\u2461\u2462-go-go",
    "a compatibility ideograph": "\uf900-is-one-sign",
    "longer than bcrypt looks": "\u2075" * 60,
}
EVERY_SPELLING = pytest.mark.parametrize("typed", TYPED.values(), ids=TYPED)


@pytest.fixture
async def hasher() -> AsyncIterator[PasswordHasher]:
    hasher = PasswordHasher(threads=2, queue=3, cost=QUICK)
    yield hasher
    hasher.close()


def hashed_elsewhere(typed: str) -> list[str]:
    """Its hashes by systems that hash what was typed."""
    by_argon2: str = OURS.hash(typed)
    return [bcrypt.using(rounds=4).hash(typed.encode()[:72]), by_argon2]


@EVERY_SPELLING
async def test_hashes_of_what_was_typed_verify_and_are_replaced_by_the_normal_forms(
    hasher: PasswordHasher, typed: str
) -> None:
    normal = unicodedata.normalize("NFKC", typed)
    assert normal != typed, "else it would prove nothing"
    for old in hashed_elsewhere(typed):
        assert await hasher.verify(f"wrong {typed}", old) == (False, None)
        assert await hasher.verify(normal, old) == (False, None), "nor did it fit elsewhere"
        correct, renewed = await hasher.verify(typed, old)
        assert correct
        assert renewed
        for spelling in (normal, typed, unicodedata.normalize("NFD", typed)):
            assert await hasher.verify(spelling, renewed) == (True, None)


@EVERY_SPELLING
async def test_unknown_users_cost_as_many_verifications_as_known_ones(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    calls: list[str] = []
    verify = hasher._context.verify

    def noted(secret: str, password_hash: str) -> bool:
        calls.append(password_hash)
        return verify(secret, password_hash)

    known = await hasher.hash(PASSWORD, source=COMMANDS)
    monkeypatch.setattr(hasher._context, "verify", noted)
    for password, expected in ((typed, 2), (unicodedata.normalize("NFKC", typed), 1)):
        for password_hash in (known, None):
            calls.clear()
            assert await hasher.verify(password, password_hash) == (False, None)
            assert len(calls) == expected
            assert all(each.startswith(QUICK.start) for each in calls)


async def test_a_user_from_elsewhere_signs_in_as_they_typed_it_there(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    typed = TYPED["umlauts in NFD"]
    for old in hashed_elsewhere(typed):
        someone = await make_user(runtime)
        this = User.id == someone.id
        async with runtime.work(OPERATOR) as work:
            await work.db.execute(update(User).where(this).values(password_hash=old))
        normal = unicodedata.normalize("NFKC", typed)
        assert (await login(client, someone, password=normal)).status_code == 400
        for spelling in (typed, normal, typed):
            assert (await login(client, someone, password=spelling)).status_code == 200
        async with runtime.sessions() as db:
            renewed = await db.scalar(select(User.password_hash).where(this))
        assert OURS.verify(normal, renewed)


def test_no_more_texts_are_tried_than_can_be_a_password() -> None:
    assert spellings(PASSWORD) == [PASSWORD]
    assert spellings("nul\0") == spellings("\ud800") == spellings("a" + "\u0301" * 31) == []
    assert spellings("\u00b2") == ["2", "\u00b2"]
    # U+FDFA is 18 characters in NFKC.
    assert spellings("\ufdfa" * 100) == []
    decomposed = unicodedata.normalize("NFD", "\ud55c" * (MAX_PASSWORD_BYTES // 3))
    assert len(spellings(decomposed)) == 1, "as it is, it is longer than a password may be"
