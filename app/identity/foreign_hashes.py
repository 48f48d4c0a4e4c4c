"""Hashes as other systems write them, and the form in which each is stored here.

Most systems wrap a hash of a known kind (`identity.hash_kinds`), or write its parts in another
order or encoding. What no login can or should be checked by is refused by its name.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from passlib.utils.binary import ab64_encode

from app.errors import Refused
from app.identity.hash_kinds import NUMBER, kind_of, known_hash

DIGEST_SIZES = {"sha1": 20, "sha256": 32, "sha512": 64}
SCRYPT_KEY_BYTES = 32
CRYPT = re.compile(r"\{(?:CRYPT|ARGON2|BCRYPT)\}", re.IGNORECASE)
"""What LDAP writes before a hash that says itself which kind it is of."""
LDAP_SCHEME = re.compile(r"\{[A-Za-z0-9-]+\}")


class Writing(NamedTuple):
    """How a system writes a kind of hash, and how it becomes one that is stored."""

    system: str
    starts: tuple[str, ...]
    pattern: str
    stored: Callable[[re.Match[str]], str]
    """Raises ValueError when the parts make no hash."""


def check_hash(text: str) -> str:
    """Return an imported hash in the form in which it is stored.

    Raises Refused, with the hash's kind, if logins can't be verified with it.
    """
    text = _stored_form(_unwrapped(text))
    kind = kind_of(text)
    if kind is None:
        raise Refused(_why_unknown(text))
    known = known_hash(text)
    if known is None:
        raise _broken(kind.name)
    if not known.affordable:
        raise Refused(f"This hash by {kind.name} is too expensive to verify at a login.")
    return text


def pbkdf2(digest: str, iterations: int | str, salt: bytes, key: bytes) -> str:
    """Return a hash by PBKDF2 in the form in which it is stored. Raises ValueError.

    A longer key is cut to what one round of the digest gives, which all of it was derived like.
    """
    size = DIGEST_SIZES[digest]
    if len(key) < size:
        raise ValueError("a part of a key")
    name = "pbkdf2" if digest == "sha1" else f"pbkdf2-{digest}"
    parts = (ab64_encode(each).decode() for each in (salt, key[:size]))
    return f"${name}${iterations}${'$'.join(parts)}"


def argon2(variant: str, version: int, settings: str, salt: bytes, key: bytes) -> str:
    """Return a hash by argon2 in the form in which it is stored."""
    return f"$argon2{variant}$v={version}${settings}${_base64(salt)}${_base64(key)}"


def _scrypt(power: str, block: str, lanes: str, salt: bytes, key: bytes) -> str:
    exponent = int(power).bit_length() - 1
    if int(power) != 2**exponent or len(key) < SCRYPT_KEY_BYTES:
        raise ValueError("not by RFC 7914, or a part of a key")
    settings = f"ln={exponent},r={block},p={lanes}"
    return f"$scrypt${settings}${_base64(salt)}${_base64(key[:SCRYPT_KEY_BYTES])}"


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode().rstrip("=")


def _unwrapped(text: str) -> str:
    """Without the name of a scheme that says no more than the hash itself."""
    text = text.removeprefix("bcrypt$") if text.startswith("bcrypt$$2") else text
    text = text.removeprefix("argon2") if text.startswith("argon2$argon2") else text
    text = CRYPT.sub("", text, count=1) if CRYPT.match(text) else text
    return LDAP_SCHEME.sub(lambda scheme: scheme[0].upper(), text, count=1)


def _stored_form(text: str) -> str:
    writing = next((each for each in WRITINGS if text.startswith(each.starts)), None)
    if writing is None:
        return text
    match = re.fullmatch(writing.pattern, text)
    with suppress(ValueError):
        if match:
            return writing.stored(match)
    raise _broken(writing.system)


def _broken(name: str) -> Refused:
    return Refused(f"This hash by {name} is broken: perhaps it was cut off.")


def _why_unknown(text: str) -> str:
    for name, pattern in UNSUPPORTED.items():
        if re.match(pattern, text, re.DOTALL):
            return f"Not supported here: {name}."
    return "This is not a hash of a kind that is known here."


def _salted(match: re.Match[str]) -> bytes:
    return match["salt"].encode()


WRITINGS = (
    Writing(
        "Django's PBKDF2",
        ("pbkdf2_sha256$", "pbkdf2_sha1$"),
        rf"pbkdf2_(sha256|sha1)\${NUMBER}\$(?P<salt>[^$]+)\$([^$]+)",
        lambda match: pbkdf2(
            match[1], match[2], _salted(match), b64decode(match[4], validate=True)
        ),
    ),
    Writing(
        "Django's scrypt",
        ("scrypt$",),
        rf"scrypt\${NUMBER}\$(?P<salt>[^$]+)\${NUMBER}\${NUMBER}\$([^$]+)",
        lambda match: _scrypt(
            match[1], match[3], match[4], _salted(match), b64decode(match[5], validate=True)
        ),
    ),
    Writing(
        "Werkzeug's PBKDF2",
        ("pbkdf2:",),
        rf"pbkdf2:(sha1|sha256|sha512):{NUMBER}\$(?P<salt>[^$]+)\$([0-9a-f]+)",
        lambda match: pbkdf2(match[1], match[2], _salted(match), bytes.fromhex(match[4])),
    ),
    Writing(
        "Werkzeug's scrypt",
        ("scrypt:",),
        rf"scrypt:{NUMBER}:{NUMBER}:{NUMBER}\$(?P<salt>[^$]+)\$([0-9a-f]+)",
        lambda match: _scrypt(
            match[1], match[2], match[3], _salted(match), bytes.fromhex(match[5])
        ),
    ),
    Writing(
        "LDAP's PBKDF2",
        ("{PBKDF2",),
        r"\{(PBKDF2(?:-SHA(?:1|256|512))?)\}(.+)",
        lambda match: f"${match[1].lower().removesuffix('-sha1')}${match[2]}",
    ),
)
UNSUPPORTED = {
    "a hash by the faulty bcrypt that PHP had until 2011 ($2x$)": r"\$2x\$",
    "a hash by the first bcrypt ($2$)": r"\$2\$",
    "a hash by md5-crypt": r"\$1\$|\$apr1\$|\$md5",
    "a hash by sha1-crypt": r"\$sha1\$",
    "a hash by yescrypt": r"\$g?y\$",
    "a hash by scrypt in crypt's form ($7$)": r"\$7\$",
    "a hash by DES crypt": r"[./0-9A-Za-z]{13}$|_[./0-9A-Za-z]{19}$",
    "a hash by Drupal 7": r"U?\$S\$",
    "a hash by ASP.NET Identity": r"AQAAAA[A-Za-z0-9+/]+=*$|A[A-Za-z0-9+/]{66}=$",
    "a hash by PostgreSQL or MySQL": r"SCRAM-SHA-256\$|md5[0-9a-f]{32}$|\*[0-9A-F]{40}$",
    "an unsalted hash (MD5, SHA-1 or SHA-2)": r"(?i:(?:[0-9a-f]{32}){1,4}|[0-9a-f]{40})$",
    "a hash by LDAP's {SHA}, {MD5} or {SMD5}": r"\{(?:SHA\d*|S?MD5)\}",
    "a hash by an old Django or Werkzeug (MD5 or SHA)": r"(?:md5|sha1|sha256|sha512|crypt)\$",
    "no password (an account that was locked, or signs in elsewhere)": r"[!*]|x$",
    "JSON in a field (import Keycloak's export file itself)": r"\s*[{\[]\s*[\"{\]}]",
}
"""What has a name, and is refused by it: too weak to be worth it, or by no library here."""
