"""Hashes for tests: real ones of argon2, that cost next to nothing.

Tests of what hashing costs, of its queue and of storms use the service's own cost; so do all
processes that tests start.
"""

from app.identity.passwords import Argon2Cost, PasswordHasher
from app.settings import Settings

QUICK = Argon2Cost(memory=64, passes=1)


def quick_hasher(settings: Settings) -> PasswordHasher:
    """The hasher of a runtime with these settings, at that cost. To be closed."""
    return PasswordHasher(threads=settings.hash_threads, queue=settings.hash_queue, cost=QUICK)
