"""Personal access tokens: random strings with a checksum, for scripts. Their sessions live long.

`sgp_`, 160 random bits as 27 digits of Base62, and the CRC-32 of all that as six more digits. The
checksum is no secret: it lets scanners of leaked secrets tell a token from a string that looks like
one, and a string that is none is refused without asking the database.
"""

import re
import secrets
import zlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import LargeBinary, bindparam, select

from app.access.authority import Caller
from app.access.personal_tokens import NewToken, add_token
from app.crypto import digest
from app.db.work import Connect, Work
from app.errors import InvalidToken
from app.identity.clients import FIRST_PARTY_CLIENT
from app.identity.models import PersonalToken, Session
from app.identity.own_sessions import OwnToken
from app.identity.session_opening import TokenSecret
from app.tokens.jwt import Claims

PREFIX = "sgp_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_BITS = 160
RANDOM_DIGITS, CHECK_DIGITS = 27, 6
PATTERN = rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_DIGITS + CHECK_DIGITS}}}"
_TOKEN = re.compile(PATTERN)


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A new personal access token. The string is kept nowhere."""

    value: str
    token: OwnToken


def is_personal(token: str) -> bool:
    """Whether the string is of this format, perhaps with a wrong checksum."""
    return token.startswith(PREFIX)


def new_personal_token() -> str:
    """Return a new random token."""
    body = PREFIX + _base62(secrets.randbits(RANDOM_BITS), RANDOM_DIGITS)
    return body + checksum(body)


def checksum(body: str) -> str:
    """Return the six digits that follow what is before them."""
    return _base62(zlib.crc32(body.encode()), CHECK_DIGITS)


def is_whole(token: str) -> bool:
    """Whether the string has the form of a token, and its checksum fits. Asks no database."""
    if not _TOKEN.fullmatch(token):
        return False
    return checksum(token[:-CHECK_DIGITS]) == token[-CHECK_DIGITS:]


async def make_token(
    work: Work[Caller], new: NewToken, *, longest: timedelta, ticket: bytes | None = None
) -> MadeToken:
    """Make a personal access token of the caller's own. Raises what `add_token` raises.

    `ticket`: of the form that it is made by, which makes no other.
    """
    value = new_personal_token()
    session = await add_token(work, new, TokenSecret(digest(value), ticket), longest=longest)
    return MadeToken(value, OwnToken.of(session))


# Built once, because each use that is not remembered runs it.
_READ = (
    select(Session.id, Session.user_id, Session.scopes, Session.created_at, Session.expires_at)
    .join(PersonalToken, PersonalToken.session_id == Session.id)
    .where(PersonalToken.digest == bindparam("digest", type_=LargeBinary()))
)


async def read_personal_token(connect: Connect, token: str) -> Claims:
    """The claims of this token, expired or not. Raises InvalidToken when there is no such token."""
    if not is_whole(token):
        raise InvalidToken
    async with connect() as db:
        found = (await db.execute(_READ, {"digest": digest(token)})).one_or_none()
    if found is None:
        raise InvalidToken
    session_id, user_id, scopes, created_at, expires_at = found
    return Claims(
        subject=user_id,
        session_id=session_id,
        client_id=FIRST_PARTY_CLIENT,
        scopes=frozenset(scopes),
        issued_at=created_at,
        expires_at=expires_at,
        # The session has no other token.
        token_id=session_id,
    )


def _base62(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
