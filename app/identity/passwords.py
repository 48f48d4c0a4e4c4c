"""Passwords: which are accepted, and how they are hashed and verified.

A hash costs some 20 ms and 19 MiB on purpose. So it never runs on the event loop or in the thread
pool that serves requests, but in a few threads of its own. Calls wait for them in a bounded, fair
queue (`identity.hash_queue`), and hold no database connection meanwhile.
"""

import asyncio
import os
import re
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TypeVar

import passlib
from passlib.context import CryptContext

from app.errors import ConfigurationError, Refused
from app.identity.hash_queue import CallerGone, Disconnected, HashQueue, Source
from app.identity.spelling import MAX_MARKS, nfkc

MIN_PASSWORD_BYTES = 8
MAX_PASSWORD_BYTES = 1024
LONGEST_SPELLING = 2 * MAX_PASSWORD_BYTES
"""In characters, of any password, decomposed: no character has more of them than two a byte."""
BCRYPT_BYTES = 72
LOW_PRIORITY = 10
DUMMY_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$XkvJ+V8LISSkVMpZS2nNOQ"
    "$U2tC5dF+D9iIiA0PmYZKeIAvpe6Gw6QA3f/ngCuVUWY"
)
"""Costs as much to check as one that `PasswordHasher` makes: for where there is none to check."""
# Limits for imported hashes: a more expensive one could stall other logins or fill the memory. Both
# of the highest, 13 rounds and 256 MiB in 3 passes, cost as much as 20 to 35 hashes of our own.
MAX_BCRYPT_ROUNDS = 13
MAX_ARGON2_KIB = 256 * 1024
MAX_ARGON2_PASSES = 32
MAX_ARGON2_LANES = 16
MAX_ARGON2_WORK = 3 * MAX_ARGON2_KIB
"""KiB times passes."""

# The unused bits of the last character are zero: otherwise the hash was truncated or altered.
_BCRYPT = re.compile(
    r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$"
    r"[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)
_NUMBER = r"([1-9][0-9]{0,9})"
_BASE64 = (
    r"(?:[A-Za-z0-9+/]{4})*"
    r"(?:[A-Za-z0-9+/][AQgw]|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048])?"
)
# A salt of 8 to 64 bytes, a digest of 16 to 128.
_ARGON2 = re.compile(
    rf"\$argon2(?:id|i|d)\$(?:v=(?:16|19)\$)?m={_NUMBER},t={_NUMBER},p={_NUMBER}"
    rf"\$(?=[^$]{{11,86}}\$){_BASE64}\$(?=[^$]{{22,171}}$){_BASE64}"
)

T = TypeVar("T")

COMMANDS = Source()
AtTurn = Callable[[float], Awaitable[None]]
"""Called when a call that had to wait gets its turn, with the seconds that it waited."""


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


def check_hash(password_hash: str) -> str:
    """Return an imported hash unchanged if logins can be verified with it. Raises Refused."""
    if bcrypt := _BCRYPT.fullmatch(password_hash):
        affordable = int(bcrypt[1]) <= MAX_BCRYPT_ROUNDS
    elif argon2 := _ARGON2.fullmatch(password_hash):
        memory, passes, lanes = map(int, argon2.groups())
        if memory < 8 * lanes:
            raise Refused("This hash by argon2 has less memory than argon2 needs.")
        affordable = (
            memory <= MAX_ARGON2_KIB
            and passes <= MAX_ARGON2_PASSES
            and lanes <= MAX_ARGON2_LANES
            and memory * passes <= MAX_ARGON2_WORK
        )
    elif password_hash.startswith(("$2a$", "$2b$", "$2y$", "$argon2")):
        raise Refused("This hash by bcrypt or argon2 is broken: perhaps it was cut off.")
    else:
        raise Refused("This is not a hash by bcrypt or argon2.")
    if not affordable:
        raise Refused("This hash is too expensive to verify at a login.")
    return password_hash


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


@cache
def _common_passwords() -> frozenset[str]:
    # Here, since its lists take 15 MB, and most processes never set a password.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])


def _give_way() -> None:
    """Give this thread only the processor time that no other thread wants.

    Otherwise threads that answer requests would wait for time slices of some milliseconds.
    """
    if sys.platform == "linux":  # Elsewhere a priority is a process's, not a thread's.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)


class PasswordHasher:
    """Hashes and verifies in `threads` threads; `queue` logins, and as many others, may wait."""

    def __init__(self, *, threads: int, queue: int) -> None:
        if not passlib.__version__.startswith("1.9"):
            raise ConfigurationError(
                f"passlib {passlib.__version__} has overwritten libpass: "
                "pip uninstall passlib, then reinstall libpass"
            )
        # OWASP's figures for argon2id: m=19 MiB, t=2, p=1. bcrypt verifies, and is upgraded.
        self._context = CryptContext(
            schemes=["argon2", "bcrypt"],
            deprecated=["bcrypt"],
            argon2__type="ID",
            argon2__memory_cost=19456,
            argon2__time_cost=2,
            argon2__parallelism=1,
        )
        self._executor = ThreadPoolExecutor(
            threads, thread_name_prefix="password-hash", initializer=_give_way
        )
        self._threads = threads
        self._queue = HashQueue(threads=threads, places=queue)
        self.begun = 0
        self.waited = 0.0
        """Seconds that the calls which were begun had waited, all together."""

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return self._queue.waiting

    @property
    def refused(self) -> int:
        """Calls that found no place in the queue."""
        return self._queue.refused

    def check_room(self, source: Source) -> None:
        """Raise TooManyLogins if a call from there would find no place in the queue now."""
        self._queue.check_room(source)

    async def hash(self, password: str, *, source: Source = COMMANDS) -> str:
        """The hash of a password that `check_password` let pass. Raises TooManyLogins."""
        return await self._run(lambda: self._context.hash(password), source=source)

    async def hash_all(self, passwords: Iterable[str]) -> list[str]:
        """The hashes of many such passwords: they wait for a thread, rather than be refused."""
        turns = asyncio.Semaphore(self._threads)

        async def hash_in_turn(password: str) -> str:
            async with turns:
                return await self.hash(password)

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

        Costs one verification also when there is no hash (no such user) or the password can't
        be any user's. `at_turn` is awaited before a call that had to wait is hashed, and stops it
        by raising. Raises TooManyLogins; CallerGone when `gone` comes true in the queue.
        """
        return await self._run(
            lambda: self._verify(password, password_hash), gone, source=source, at_turn=at_turn
        )

    def close(self) -> None:
        """End the threads when their present work is done; cancel the calls that wait."""
        self._queue.close()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        normal = normalise_password(password)
        if normal is None or len(normal.encode()) > MAX_PASSWORD_BYTES or password_hash is None:
            self._context.verify("", DUMMY_HASH)
            return False, None
        # bcrypt looks at 72 bytes; where such hashes were made, the rest was cut off silently.
        is_bcrypt = self._context.identify(password_hash) == "bcrypt"
        secret = normal.encode()[:BCRYPT_BYTES] if is_bcrypt else normal
        try:
            correct = self._context.verify(secret, password_hash)
        except ValueError:
            # The stored hash is broken: no password fits, and that is no reason to fail.
            self._context.verify("", DUMMY_HASH)
            return False, None
        outdated = correct and self._context.needs_update(password_hash)
        return correct, self._context.hash(normal) if outdated else None

    async def _run(
        self,
        work: Callable[[], T],
        gone: Disconnected | None = None,
        *,
        source: Source = COMMANDS,
        at_turn: AtTurn | None = None,
    ) -> T:
        loop, asked = asyncio.get_running_loop(), time.monotonic()

        def begin() -> T:
            # The counts are the event loop's: threads would overwrite each other's.
            loop.call_soon_threadsafe(self._note_wait, time.monotonic() - asked)
            return work()

        waited = await self._queue.take_turn(source, gone)
        try:
            if waited and at_turn is not None:
                await at_turn(waited)
            future = self._executor.submit(begin)
        except BaseException:
            self._queue.give_back()
            raise
        # The turn ends when the thread is done, even if the client disconnects: a started hash is
        # finished.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._queue.give_back))
        if gone is not None:
            # If no thread has started the call, none will. A call that has started is not stopped.
            gone.add_done_callback(lambda _: future.cancel())
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if gone is not None and gone.done():
                raise CallerGone from None
            raise

    def _note_wait(self, seconds: float) -> None:
        self.begun += 1
        self.waited += seconds
