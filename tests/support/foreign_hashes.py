"""Hashes as other systems write them, and the passwords that they are of."""

import base64
import hashlib
import hmac
from typing import Any

import passlib.hash

from tests.support.factories import PASSWORD

SALT = b"saltsalt"
OCTETS = PASSWORD.encode()
FIREBASE = (
    "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,"
    "sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
    "$42xEC+ixf3L2lw=="
    "$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
)
"""Of user1password: the example that Firebase publishes."""
JANES_KEYCLOAK_PASSWORD = {
    "type": "password",
    "credentialData": (
        '{"hashIterations":5,"algorithm":"argon2","additionalParameters":{"hashLength":["32"],'
        '"memory":["7168"],"type":["id"],"version":["1.3"],"parallelism":["1"]}}'
    ),
    "secretData": (
        '{"value":"xKjWvB9+0sSP6wTqI1JoEI7w+iA0x9VDhPgmrOHRG80=",'
        '"salt":"LRScGShC7shkdoU5B1UgUQ==","additionalParameters":{}}'
    ),
}
"""Made by Keycloak 26, of `secret`."""


def by(hasher: str, **settings: Any) -> str:
    """A hash by one of passlib's hashers, as cheap as can be."""
    made: str = getattr(passlib.hash, hasher).using(**settings).hash(PASSWORD)
    return made


def pbkdf2(digest: str, *, iterations: int = 1000) -> bytes:
    """The key that PBKDF2 derives."""
    return hashlib.pbkdf2_hmac(digest, OCTETS, SALT, iterations)


def scrypt(power: int, block: int, lanes: int) -> bytes:
    """The key of 64 bytes that scrypt derives, as Django and Werkzeug have it."""
    return hashlib.scrypt(OCTETS, salt=SALT, n=power, r=block, p=lanes, dklen=64)


def encoded(octets: bytes) -> str:
    """In Base64."""
    return base64.b64encode(octets).decode()


BCRYPT = by("bcrypt", rounds=4)
ARGON2 = by("argon2", memory_cost=512, time_cost=1)
SSHA = by("ldap_salted_sha1").removeprefix("{SSHA}")
WORDPRESS = passlib.hash.bcrypt.using(rounds=4, ident="2y").hash(
    encoded(hmac.digest(b"wp-sha384", OCTETS, "sha384"))
)

HASHES = {
    "bcrypt": (BCRYPT, PASSWORD),
    "bcrypt of PHP": (by("bcrypt", rounds=4, ident="2y"), PASSWORD),
    "argon2": (ARGON2, PASSWORD),
    "Django, PBKDF2": (f"pbkdf2_sha256$1000$saltsalt${encoded(pbkdf2('sha256'))}", PASSWORD),
    "Django, PBKDF2, SHA-1": (f"pbkdf2_sha1$1000$saltsalt${encoded(pbkdf2('sha1'))}", PASSWORD),
    "Django, PBKDF2, by passlib": (by("django_pbkdf2_sha256", rounds=9), PASSWORD),
    "Django, bcrypt": (f"bcrypt${BCRYPT}", PASSWORD),
    "Django, bcrypt_sha256": (by("django_bcrypt_sha256", rounds=4), PASSWORD),
    "Django, argon2": (f"argon2{ARGON2}", PASSWORD),
    "Django, scrypt": (f"scrypt$16$saltsalt$8$2${encoded(scrypt(16, 8, 2))}", PASSWORD),
    "Werkzeug, PBKDF2": (f"pbkdf2:sha256:1000$saltsalt${pbkdf2('sha256').hex()}", PASSWORD),
    "Werkzeug, PBKDF2, SHA-1": (f"pbkdf2:sha1:1000$saltsalt${pbkdf2('sha1').hex()}", PASSWORD),
    "Werkzeug, PBKDF2, SHA-512": (
        f"pbkdf2:sha512:1000$saltsalt${pbkdf2('sha512').hex()}",
        PASSWORD,
    ),
    "Werkzeug, scrypt": (f"scrypt:1024:8:1$saltsalt${scrypt(1024, 8, 1).hex()}", PASSWORD),
    "passlib, pbkdf2_sha1": (by("pbkdf2_sha1", rounds=10), PASSWORD),
    "passlib, pbkdf2_sha256": (by("pbkdf2_sha256", rounds=10), PASSWORD),
    "passlib, pbkdf2_sha512": (by("pbkdf2_sha512", rounds=10), PASSWORD),
    "passlib, bcrypt_sha256": (by("bcrypt_sha256", rounds=4), PASSWORD),
    "passlib, bcrypt_sha256 before 1.7": (by("bcrypt_sha256", rounds=4, version=1), PASSWORD),
    "passlib, scrypt": (by("scrypt", rounds=4), PASSWORD),
    "WordPress, phpass": ("$P$B55D6LjfHDkINU5wF.v2BuuzO0/XPk/", "test"),
    "WordPress 6.8": (
        "$wp$2y$10$/ktG/bzsEU/Ag7umrbqsTeiSLAJ4IXWjA5ZaN/ZBjqQZ.oNDEP1Vm",
        "password",
    ),
    "WordPress 6.8, few rounds": (f"$wp{WORDPRESS}", PASSWORD),
    "phpBB": (by("phpass", rounds=7, ident="H"), PASSWORD),
    "LDAP, {CRYPT} and bcrypt": (f"{{CRYPT}}{BCRYPT}", PASSWORD),
    "LDAP, {crypt} and sha512-crypt": (f"{{crypt}}{by('sha512_crypt', rounds=1000)}", PASSWORD),
    "LDAP, {ARGON2}": (f"{{ARGON2}}{ARGON2}", PASSWORD),
    "LDAP, {BCRYPT}": (f"{{BCRYPT}}{BCRYPT}", PASSWORD),
    "LDAP, {SSHA}": (f"{{SSHA}}{SSHA}", PASSWORD),
    "LDAP, {ssha}": (f"{{ssha}}{SSHA}", PASSWORD),
    "LDAP, {SSHA256}": (by("ldap_salted_sha256"), PASSWORD),
    "LDAP, {SSHA512}": (by("ldap_salted_sha512"), PASSWORD),
    "LDAP, {PBKDF2-SHA256}": (by("ldap_pbkdf2_sha256", rounds=10), PASSWORD),
    "LDAP, {PBKDF2-SHA1}": (
        by("ldap_pbkdf2_sha1", rounds=10).replace("{PBKDF2}", "{PBKDF2-SHA1}"),
        PASSWORD,
    ),
    "sha512-crypt": (by("sha512_crypt", rounds=5000), PASSWORD),
    "sha512-crypt with rounds": (by("sha512_crypt", rounds=1000), PASSWORD),
    "sha256-crypt": (by("sha256_crypt", rounds=1000), PASSWORD),
    "Firebase": (FIREBASE, "user1password"),
}
"""By the system that wrote it: the hash, and its password."""
