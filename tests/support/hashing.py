"""Hashes for tests: real ones of argon2, that cost next to nothing.

Tests of what hashing costs, of its queue and of storms use the service's own cost; so do all
processes that tests start.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from app.identity.passwords import Argon2Cost, PasswordHasher
from app.runtime import Runtime

QUICK = Argon2Cost(memory=64, passes=1)


@asynccontextmanager
async def hashing_quickly(runtime: Runtime) -> AsyncIterator[Runtime]:
    """The same runtime, with hashes that cost next to nothing."""
    settings = runtime.settings
    hasher = PasswordHasher(threads=settings.hash_threads, queue=settings.hash_queue, cost=QUICK)
    try:
        yield replace(runtime, hasher=hasher)
    finally:
        hasher.close()
