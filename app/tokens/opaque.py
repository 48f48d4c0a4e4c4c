"""Opaque access tokens: random strings, whose claims stand in the database under a digest."""

import secrets

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import digest
from app.db.work import Connect
from app.errors import InvalidToken
from app.identity.clients import FIRST_PARTY_CLIENT
from app.identity.models import Session
from app.tokens.jwt import Claims
from app.tokens.models import OpaqueToken

PREFIX = "sgo_"


def is_opaque(token: str) -> bool:
    """Whether the string is of this format; a JWT never is."""
    return token.startswith(PREFIX)


def new_opaque_token() -> str:
    """Return a new random token."""
    return PREFIX + secrets.token_urlsafe(32)


async def store_opaque_token(db: AsyncSession, token: str, claims: Claims) -> None:
    """Keep what the token says, under its digest. Its session must be in the database."""
    row = {
        "digest": token_digest(token),
        "session_id": claims.session_id,
        "token_id": claims.token_id,
        "audience": claims.audience,
        "scopes": sorted(claims.scopes),
        "issued_at": claims.issued_at,
        "expires_at": claims.expires_at,
    }
    await db.execute(_STORE, row)


# Built once, because each opaque token runs them.
_STORE = insert(OpaqueToken.__table__)  # type: ignore[arg-type]
_READ = (
    select(
        OpaqueToken.session_id,
        OpaqueToken.token_id,
        OpaqueToken.audience,
        OpaqueToken.scopes,
        OpaqueToken.issued_at,
        OpaqueToken.expires_at,
        Session.user_id,
        Session.client_id,
    )
    .join(Session)
    .where(OpaqueToken.digest == bindparam("digest"))
)


async def read_opaque_token(connect: Connect, token: str) -> Claims:
    """The claims of this token, expired or not. Raises InvalidToken when there is no such token."""
    async with connect() as db:
        found = (await db.execute(_READ, {"digest": token_digest(token)})).one_or_none()
    if found is None:
        raise InvalidToken
    return Claims(
        subject=found.user_id,
        session_id=found.session_id,
        client_id=found.client_id or FIRST_PARTY_CLIENT,
        scopes=frozenset(found.scopes),
        issued_at=found.issued_at,
        expires_at=found.expires_at,
        token_id=found.token_id,
        audience=found.audience,
    )


def token_digest(token: str) -> bytes:
    """What stands for the token where the token itself must not be kept."""
    return digest(token)
