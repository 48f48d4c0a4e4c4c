"""What it costs to verify a password by a hash, of each kind that `identity.hash_kinds` knows."""

import re
from base64 import b64decode
from typing import NamedTuple

MAX_ARGON2_PASSES = 32
MAX_ARGON2_LANES = 16


class Cost(NamedTuple):
    """What one verification costs at most, whatever the password: one text, in all its forms.

    `work` counts steps of about half a microsecond: an iteration of PBKDF2, a pass of argon2 over
    one KiB. What Python computes has one for each call of a digest and one for each 400 bytes that
    it digests. A hash of our own has 38,912, some 20 ms.
    """

    work: int
    kib: int = 0


# The highest: bcrypt with 15 rounds, some two seconds. More would let a few logins use up a core.
MAX_COST = Cost(work=2**22, kib=256 * 1024)
# Of what costs more, a process verifies one at a time. Up to a second, as bcrypt with 13 rounds and
# Django 6 need, is below.
MAX_ORDINARY_COST = Cost(work=1_500_000, kib=64 * 1024)


def argon2_cost(match: re.Match[str]) -> Cost:
    """Return the cost of argon2. Raises ValueError for less memory than it needs."""
    memory, passes, lanes = map(int, match.groups())
    if memory < 8 * lanes:
        raise ValueError("less memory than argon2 needs")
    if passes > MAX_ARGON2_PASSES or lanes > MAX_ARGON2_LANES:
        return Cost(MAX_COST.work + 1)
    return Cost(memory * passes, memory)


def bcrypt_cost(match: re.Match[str]) -> Cost:
    """Return the cost of bcrypt."""
    return Cost(2 ** (7 + int(match[1])))


def wordpress_cost(match: re.Match[str]) -> Cost:
    """Return the cost of WordPress' bcrypt, which is tried by two forms of a password."""
    return Cost(2 * bcrypt_cost(match).work)


def pbkdf2_cost(match: re.Match[str]) -> Cost:
    """Return the cost of PBKDF2."""
    return Cost(int(match[1]))


def scrypt_cost(match: re.Match[str]) -> Cost:
    """Return the cost of scrypt. Raises ValueError for parameters that RFC 7914 excludes."""
    exponent, block, lanes = map(int, match.groups()[:3])
    if exponent >= 16 * block:
        raise ValueError("not by RFC 7914")
    return Cost(block * lanes * 2**exponent, block * (lanes + 2**exponent) // 8)


def firebase_cost(match: re.Match[str]) -> Cost:
    """Return the cost of Firebase's scrypt. Raises ValueError for a digest of another key."""
    # Firebase encrypts the project's key, so the digest is as long.
    if not match["key"] or len(b64decode(match["key"])) != len(b64decode(match["digest"])):
        raise ValueError("not a digest of this key")
    return scrypt_cost(match)


def sha_crypt_cost(match: re.Match[str]) -> Cost:
    """Return the cost of sha256-crypt and sha512-crypt, with a password of 1024 bytes."""
    # Before the rounds, the password is digested once for each of its bytes. A round digests it
    # almost twice.
    return Cost(2**12 + 6 * int(match[1] or 5000))


def phpass_cost(match: re.Match[str]) -> Cost:
    """Return the cost of phpass, with a password of 1024 quotation marks."""
    # Two forms of it are tried. In one there is a backslash before each mark.
    return Cost(10 * (1 + 2 ** "./0123456789ABCDEFGHIJKLMNOPQRST".index(match[1])))


def no_cost(_: re.Match[str]) -> Cost:
    """Return the cost of a digest that is computed once."""
    return Cost(1)
