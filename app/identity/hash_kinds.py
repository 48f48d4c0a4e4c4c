"""The kinds of hashes that a login can be checked by, in the form in which they are stored.

Each kind says what a verification costs, from the hash itself (`identity.hash_costs`): what an
import may bring in, and which threads verify it, follows from that. `identity.foreign_hashes` knows
how other systems write these hashes.
"""

import hashlib
import hmac
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from passlib import hash as hashers

from app.identity.hash_costs import (
    MAX_COST,
    MAX_ORDINARY_COST,
    Cost,
    argon2_cost,
    bcrypt_cost,
    firebase_cost,
    no_cost,
    pbkdf2_cost,
    phpass_cost,
    scrypt_cost,
    sha_crypt_cost,
    wordpress_cost,
)

BCRYPT_BYTES = 72
NUMBER = r"([1-9][0-9]{0,9})"
BASE64 = (
    r"(?:[A-Za-z0-9+/]{4})*"
    r"(?:[A-Za-z0-9+/][AQgw]|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048])?"
)
PADDED_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
# The unused bits of the last character are zero: otherwise the hash was truncated or altered.
BCRYPT_SALT = r"[./A-Za-z0-9]{21}[.Oeu]"
BCRYPT_DIGEST = r"[./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
BCRYPT = rf"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\${BCRYPT_SALT}{BCRYPT_DIGEST}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of hash; `starts` are all ways in which one of it begins."""

    name: str
    starts: tuple[str, ...]
    pattern: str
    cost: Callable[[re.Match[str]], Cost]
    """Raises ValueError for a hash that no implementation can have made."""
    fits: Callable[[str, str], bool]
    """Whether such a hash is of this text."""
    by_python: bool = False
    """Whether Python computes it, and not a library in C that leaves the interpreter to others."""


@dataclass(frozen=True, slots=True)
class KnownHash:
    """A hash of a known kind, as it is stored."""

    text: str
    kind: Kind
    cost: Cost

    @property
    def affordable(self) -> bool:
        """Whether a login may cost that much."""
        return self.cost.work <= MAX_COST.work and self.cost.kib <= MAX_COST.kib

    def costly(self, *, tries: int = 1) -> bool:
        """Whether so many verifications cost so much that other users' logins must not wait."""
        ordinary = MAX_ORDINARY_COST
        return (
            self.kind.by_python
            or tries * self.cost.work > ordinary.work
            or self.cost.kib > ordinary.kib
        )

    def fits(self, secret: str) -> bool:
        """Whether this is the hash of that text."""
        if not self.kind.by_python:
            return self.kind.fits(secret, self.text)
        with _interrupted_often():
            return self.kind.fits(secret, self.text)


def kind_of(text: str) -> Kind | None:
    """Return the kind that the hash begins like, though it may be broken."""
    return next((kind for kind in KINDS if text.startswith(kind.starts)), None)


def known_hash(text: str) -> KnownHash | None:
    """Return what is known of a hash; None if it is broken, or of no known kind."""
    kind = kind_of(text)
    match = kind and re.fullmatch(kind.pattern, text)
    try:
        return KnownHash(text, kind, kind.cost(match)) if kind and match else None
    except ValueError:
        return None


@contextmanager
def _interrupted_often() -> Iterator[None]:
    """Have Python hand over to other threads ten times as often as it does by itself.

    Else the event loop waits 5 ms for each step of a request while such a hash is computed. For one
    thread at a time: the interval is the process's.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 10)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _fits_by(hasher: str) -> Callable[[str, str], bool]:
    # By name: passlib imports a hasher when it is first needed, which most processes never do.
    return lambda secret, text: getattr(hashers, hasher).verify(secret, text)


def _fits_bcrypt(secret: str, text: str) -> bool:
    # bcrypt looks at 72 bytes; where such hashes were made, the rest was cut off silently.
    return hashers.bcrypt.verify(secret.encode()[:BCRYPT_BYTES], text)


def _typed_in_wordpress(secret: str) -> dict[str, None]:
    """How WordPress sees a password: without spaces around it; its forms escape quotation marks."""
    trimmed = secret.strip(" \t\n\r\v")
    return dict.fromkeys([re.sub(r"(['\"\\])", r"\\\1", trimmed), trimmed])


def _fits_phpass(secret: str, text: str) -> bool:
    return any(hashers.phpass.verify(each, text) for each in _typed_in_wordpress(secret))


def _fits_wordpress(secret: str, text: str) -> bool:
    digests = (
        b64encode(hmac.digest(b"wp-sha384", each.encode(), "sha384"))
        for each in _typed_in_wordpress(secret)
    )
    return any(hashers.bcrypt.verify(each, text.removeprefix("$wp")) for each in digests)


def _fits_firebase(secret: str, text: str) -> bool:
    match = re.fullmatch(_FIREBASE, text)
    assert match
    exponent, block, lanes = map(int, match.groups()[:3])
    key = hashlib.scrypt(
        secret.encode(),
        salt=b64decode(match["salt"]) + b64decode(match["separator"] or ""),
        n=2**exponent,
        r=block,
        p=lanes,
        maxmem=2 * 1024 * MAX_COST.kib,
        dklen=32,
    )
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    encrypted = encryptor.update(b64decode(match["key"]))
    return hmac.compare_digest(encrypted, b64decode(match["digest"]))


_PBKDF2 = rf"\${NUMBER}\$(?=[^$]{{0,342}}\$)(?:[./A-Za-z0-9]{{4}})*(?:[./A-Za-z0-9]{{2,3}})?\$"
_SHA_CRYPT = r"\$(?:rounds=([1-9][0-9]{3,8})\$)?[./0-9A-Za-z]{0,16}\$"
_FIREBASE = (
    rf"\$fbscrypt\$v=1,n=([1-9][0-9]?),r={NUMBER},p={NUMBER},"
    rf"(?:ss=(?P<separator>{PADDED_BASE64}),)?sk=(?P<key>{PADDED_BASE64})"
    rf"\$(?P<salt>{PADDED_BASE64})\$(?P<digest>{PADDED_BASE64})"
)

KINDS = (
    Kind(
        "argon2",
        ("$argon2",),
        # A salt of 8 to 64 bytes, a digest of 16 to 128.
        rf"\$argon2(?:id|i|d)\$(?:v=(?:16|19)\$)?m={NUMBER},t={NUMBER},p={NUMBER}"
        rf"\$(?=[^$]{{11,86}}\$){BASE64}\$(?=[^$]{{22,171}}$){BASE64}",
        argon2_cost,
        _fits_by("argon2"),
    ),
    Kind("bcrypt", ("$2a$", "$2b$", "$2y$"), BCRYPT, bcrypt_cost, _fits_bcrypt),
    Kind(
        "passlib's bcrypt_sha256",
        ("$bcrypt-sha256$",),
        r"\$bcrypt-sha256\$(?:v=2,t=2b,r=|2[ab],)([4-9]|[12][0-9]|3[01])"
        rf"\${BCRYPT_SALT}\${BCRYPT_DIGEST}",
        bcrypt_cost,
        _fits_by("bcrypt_sha256"),
    ),
    Kind(
        "Django's bcrypt_sha256",
        ("bcrypt_sha256$",),
        rf"bcrypt_sha256\${BCRYPT}",
        bcrypt_cost,
        _fits_by("django_bcrypt_sha256"),
    ),
    Kind("WordPress", ("$wp$",), rf"\$wp{BCRYPT}", wordpress_cost, _fits_wordpress),
    Kind(
        "phpass",
        ("$P$", "$H$"),
        r"\$[PH]\$([5-9A-S])[./0-9A-Za-z]{8}[./0-9A-Za-z]{21}[./01]",
        phpass_cost,
        _fits_phpass,
        by_python=True,
    ),
    *(
        Kind(
            f"PBKDF2-{digest}",
            (start,),
            rf"{re.escape(start[:-1])}{_PBKDF2}[./A-Za-z0-9]{{{length}}}",
            pbkdf2_cost,
            _fits_by(hasher),
        )
        for digest, start, length, hasher in (
            ("SHA1", "$pbkdf2$", 27, "pbkdf2_sha1"),
            ("SHA256", "$pbkdf2-sha256$", 43, "pbkdf2_sha256"),
            ("SHA512", "$pbkdf2-sha512$", 86, "pbkdf2_sha512"),
        )
    ),
    Kind(
        "scrypt",
        ("$scrypt$",),
        rf"\$scrypt\$ln=([1-9][0-9]?),r={NUMBER},p={NUMBER}"
        rf"\$(?=[^$]{{0,342}}\$){BASE64}\$[A-Za-z0-9+/]{{42}}[AEIMQUYcgkosw048]",
        scrypt_cost,
        _fits_by("scrypt"),
    ),
    Kind("Firebase", ("$fbscrypt$",), _FIREBASE, firebase_cost, _fits_firebase),
    Kind(
        "sha256-crypt",
        ("$5$",),
        rf"\$5{_SHA_CRYPT}[./0-9A-Za-z]{{42}}[./0-9A-D]",
        sha_crypt_cost,
        _fits_by("sha256_crypt"),
        by_python=True,
    ),
    Kind(
        "sha512-crypt",
        ("$6$",),
        rf"\$6{_SHA_CRYPT}[./0-9A-Za-z]{{85}}[./01]",
        sha_crypt_cost,
        _fits_by("sha512_crypt"),
        by_python=True,
    ),
    # A salt of 4 to 16 bytes behind the digest.
    *(
        Kind(
            f"LDAP's {start}",
            (start,),
            rf"{re.escape(start)}(?=[^=]{{{least},{most}}}=*$){PADDED_BASE64}",
            no_cost,
            _fits_by(hasher),
        )
        for start, least, most, hasher in (
            ("{SSHA}", 32, 48, "ldap_salted_sha1"),
            ("{SSHA256}", 48, 64, "ldap_salted_sha256"),
            ("{SSHA512}", 91, 107, "ldap_salted_sha512"),
        )
    ),
)
