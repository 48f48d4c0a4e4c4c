"""Passwords: which are accepted, and how they are hashed and verified.

A hash costs some 20 ms and 19 MiB on purpose. So it runs in a few threads of its own
(`identity.hash_threads`). Calls wait for them in a bounded, fair queue (`identity.hash_queue`), and
hold no database connection meanwhile.
"""

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import passlib
from passlib.context import CryptContext

from app.errors import ConfigurationError, Refused
from app.identity.hash_kinds import KnownHash, known_hash
from app.identity.hash_queue import Disconnected, Source
from app.identity.hash_threads import COMMANDS, AtTurn, HashThreads
from app.identity.spelling import MAX_MARKS, nfkc

MIN_PASSWORD_BYTES = 8
MAX_PASSWORD_BYTES = 1024
LONGEST_SPELLING = 2 * MAX_PASSWORD_BYTES
"""In characters, of any password, decomposed: no character has more of them than two a byte."""


class Argon2Cost(NamedTuple):
    """What one hash of ours costs: KiB of memory, and passes over it."""

    memory: int
    passes: int

    @property
    def start(self) -> str:
        """How hashes of this cost begin, and no others, but for their salts."""
        return f"$argon2id$v=19$m={self.memory},t={self.passes},p=1$"

    @property
    def dummy(self) -> str:
        """A hash that costs as much to check: for where there is none to check."""
        return f"{self.start}XkvJ+V8LISSkVMpZS2nNOQ$U2tC5dF+D9iIiA0PmYZKeIAvpe6Gw6QA3f/ngCuVUWY"


# OWASP's figures for argon2id.
OURS = Argon2Cost(memory=19456, passes=2)


class WeakPassword(Refused):
    """The password is one that would be guessed, or can't be used at all."""


def check_password(password: str, *, username: str) -> str:
    """The password in the form that is hashed (NFKC). Raises WeakPassword, saying why."""
    if len(password) > LONGEST_SPELLING:
        raise WeakPassword(f"A password has at most {MAX_PASSWORD_BYTES} bytes.")
    normal = normalise_password(password)
    if normal is None:
        raise WeakPassword(
            "A password is text: it has no NUL, no broken characters and at most "
            f"{MAX_MARKS} combining marks in a row."
        )
    if len(normal.encode()) < MIN_PASSWORD_BYTES:
        raise WeakPassword(f"A password has at least {MIN_PASSWORD_BYTES} bytes.")
    if len(normal.encode()) > MAX_PASSWORD_BYTES:
        raise WeakPassword(f"A password has at most {MAX_PASSWORD_BYTES} bytes.")
    if normal.casefold() == username.casefold():
        raise WeakPassword("The password is the username: choose another.")
    if normal.casefold() in _common_passwords():
        raise WeakPassword("This password is among the most common ones: choose another.")
    return normal


def normalise_password(password: str) -> str | None:
    """NFKC, so that every keyboard's way to write it is the same; None if it can't be hashed."""
    normal = nfkc(password, at_most=LONGEST_SPELLING)
    if normal is None:
        return None
    try:
        normal.encode()
    except UnicodeEncodeError:
        return None
    return None if "\0" in normal else normal


def spellings(password: str) -> list[str]:
    """The texts that may have been hashed when this password was set: its NFKC, then it itself.

    Other systems hash what was typed, so only the second may fit their hashes. One text when the
    two are the same; none when no user can have this password.
    """
    normal = normalise_password(password)
    if normal is None or len(normal.encode()) > MAX_PASSWORD_BYTES:
        return []
    if password == normal or len(password.encode()) > MAX_PASSWORD_BYTES:
        return [normal]
    return [normal, password]


@cache
def _common_passwords() -> frozenset[str]:
    # Here, since its lists take 15 MB, and most processes never set a password.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])


class PasswordHasher:
    """Hashes and verifies in `threads` threads; `queue` logins, and as many others, may wait.

    Hashes from elsewhere that cost far more than ours, or that Python computes, are verified in one
    thread more, behind a queue of its own: no other login waits for them, however many come.

    `cost` is for tests, which make thousands of hashes.
    """

    def __init__(self, *, threads: int, queue: int, cost: Argon2Cost = OURS) -> None:
        if not passlib.__version__.startswith("1.9"):
            raise ConfigurationError(
                f"passlib {passlib.__version__} has overwritten libpass: "
                "pip uninstall passlib, then reinstall libpass"
            )
        self.cost = cost
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=cost.memory,
            argon2__time_cost=cost.passes,
            argon2__parallelism=1,
        )
        self._threads = HashThreads(threads, places=queue, name="password-hash")
        self._costly = HashThreads(1, places=queue, name="costly-hash")

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return self._threads.queue.waiting + self._costly.queue.waiting

    @property
    def refused(self) -> int:
        """How many calls found no place in the queue."""
        return self._threads.queue.refused + self._costly.queue.refused

    @property
    def begun(self) -> int:
        """How many calls a thread has begun."""
        return self._threads.begun + self._costly.begun

    @property
    def waited(self) -> float:
        """Seconds that the begun calls had waited for a thread, all together."""
        return self._threads.waited + self._costly.waited

    def check_room(self, source: Source) -> None:
        """Raise TooManyLogins if a call from there would find no place in the queue now."""
        self._threads.queue.check_room(source)

    async def hash(self, password: str, *, source: Source) -> str:
        """The hash of a password that `check_password` let pass. Raises TooManyLogins.

        Whose call it is has no default: a stranger's must not wait in a queue with a command's.
        """
        return await self._threads.run(lambda: self._context.hash(password), source=source)

    async def hash_all(self, passwords: Iterable[str]) -> list[str]:
        """The hashes of many such passwords: they wait for a thread, rather than be refused."""
        turns = asyncio.Semaphore(self._threads.threads)

        async def hash_in_turn(password: str) -> str:
            async with turns:
                return await self.hash(password, source=COMMANDS)

        return await asyncio.gather(*map(hash_in_turn, passwords))

    async def verify(
        self,
        password: str,
        password_hash: str | None,
        *,
        source: Source = COMMANDS,
        at_turn: AtTurn | None = None,
        gone: Disconnected | None = None,
    ) -> tuple[bool, str | None]:
        """Whether the password is right, and its new hash if the old one is to be replaced.

        A password that differs from its NFKC costs two verifications, any other one: also when
        there is no hash (no such user). A wrong one never costs less than a hash of ours. `at_turn`
        is awaited before a call that had to wait is hashed, and stops it by raising. Raises
        TooManyLogins; CallerGone when `gone` comes true in the queue.
        """
        known = known_hash(password_hash or "")
        # All of ASCII is its own NFKC. Of the rest it is not known yet: that takes time too.
        tries = 1 if password.isascii() else 2
        costly = known and known.affordable and known.costly(tries=tries)
        threads = self._costly if costly else self._threads
        return await threads.run(
            lambda: self._verify(password, known), gone, source=source, at_turn=at_turn
        )

    def close(self) -> None:
        """End the threads when their present work is done; cancel the calls that wait."""
        self._threads.close()
        self._costly.close()

    def _verify(self, password: str, known: KnownHash | None) -> tuple[bool, str | None]:
        candidates = spellings(password)
        if not candidates:
            self._fits("", None)
        for spelling in candidates:
            if self._fits(spelling, known):
                assert known is not None
                renew = spelling != candidates[0] or not known.text.startswith(self.cost.start)
                return True, self._context.hash(candidates[0]) if renew else None
        return False, None

    def _fits(self, secret: str, known: KnownHash | None) -> bool:
        """Whether the hash is of this text. What is not costs a hash of ours at least."""
        if known is not None and known.text.startswith(self.cost.start):
            return self._context.verify(secret, known.text)
        if known is not None and known.affordable and known.fits(secret):
            return True
        self._context.verify("", self.cost.dummy)
        return False
