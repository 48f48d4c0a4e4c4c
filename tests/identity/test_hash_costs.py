"""What a hash is said to cost is no less than the work that is really done, for any password."""

import hashlib
from collections.abc import Callable
from typing import Any

import bcrypt
import passlib.crypto.scrypt
import passlib.handlers.phpass
import pytest
from argon2 import low_level

from app.identity.foreign_hashes import check_hash
from app.identity.hash_kinds import KINDS, KnownHash, known_hash
from app.identity.passwords import MAX_PASSWORD_BYTES
from tests.support.foreign_hashes import HASHES

PASSWORDS = {
    "short": "not the password",
    "longest": "x" * MAX_PASSWORD_BYTES,
    "quotation marks, which WordPress escapes": "'" * MAX_PASSWORD_BYTES,
}
BYTES_A_STEP = 400


class Work:
    """The steps that the hashers have done, as `Cost` counts them."""

    def __init__(self) -> None:
        self.steps = 0.0
        self.calls = 0

    def add(self, steps: float) -> None:
        """Count a call of a hasher."""
        self.steps += steps
        self.calls += 1


def digest_of(digest: Any, work: Work) -> type:
    """A hash function of hashlib whose calls are counted."""

    class Counted:
        def __init__(self, octets: bytes = b"") -> None:
            self._digest = digest()
            self.update(octets)

        def update(self, octets: bytes) -> None:
            work.add(1 + len(octets) / BYTES_A_STEP)
            self._digest.update(octets)

        def digest(self) -> bytes:
            return bytes(self._digest.digest())

    return Counted


def known(text: str) -> KnownHash:
    """The hash as it is stored."""
    found = known_hash(check_hash(text))
    assert found
    return found


def argon2_work(text: bytes, *_: object) -> float:
    """The steps of a verification by argon2."""
    settings = dict(each.split("=") for each in text.decode().split("$")[3].split(","))
    return int(settings["m"]) * int(settings["t"])


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """What is done from here on, counted where the hashers call what computes the hash."""
    work = Work()

    def watch(place: object, name: str, steps: Callable[..., float]) -> None:
        hasher = getattr(place, name)

        def counted(*args: Any, **named: Any) -> Any:
            work.add(steps(*args, **named))
            return hasher(*args, **named)

        monkeypatch.setattr(place, name, counted)

    # Before the first hash that passlib is asked for, it tries each library by some others.
    for text, password in HASHES.values():
        assert known(text).fits(password)
    watch(bcrypt, "hashpw", lambda _, salt: 2 ** (7 + int(salt.split(b"$")[2])))
    watch(low_level, "verify_secret", argon2_work)
    watch(hashlib, "pbkdf2_hmac", lambda *args: args[3])
    watch(hashlib, "scrypt", lambda *_, n, r, p, **__: n * r * p)  # Firebase's.
    watch(passlib.crypto.scrypt, "_scrypt", lambda _, __, n, r, p, ___: n * r * p)
    monkeypatch.setattr(passlib.handlers.phpass, "md5", digest_of(hashlib.md5, work))
    for name in ("sha256", "sha512"):
        monkeypatch.setattr(hashlib, name, digest_of(getattr(hashlib, name), work))
    return work


@pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS)
@pytest.mark.parametrize("text", [text for text, _ in HASHES.values()], ids=HASHES)
def test_a_verification_does_no_more_work_than_is_declared(
    work: Work, text: str, password: str
) -> None:
    hash_ = known(text)
    assert not hash_.fits(password)
    assert work.calls or hash_.kind.name.startswith("LDAP")
    assert work.steps <= hash_.cost.work


def test_every_kind_has_an_example_whose_work_is_counted() -> None:
    assert {known(text).kind for text, _ in HASHES.values()} == set(KINDS)
