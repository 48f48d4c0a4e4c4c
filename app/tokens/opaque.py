"""Opaque access tokens: random strings, whose claims stand in the database under a digest."""

import secrets

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.crypto import digest
from app.errors import InvalidToken
from app.identity.clients import FIRST_PARTY_CLIENT
from app.identity.models import Session
from app.tokens.jwt import Claims
from app.tokens.models import OpaqueToken

PREFIX = "sgo_"


def is_opaque(token: str) -> bool:
    """Whether the string is of this format; a JWT never is."""
    return token.startswith(PREFIX)


async def write_opaque_token(db: AsyncSession, claims: Claims) -> str:
    """A new token for these claims, whose session is in the database already."""
    token = PREFIX + secrets.token_urlsafe(32)
    db.add(
        OpaqueToken(
            digest=token_digest(token),
            session_id=claims.session_id,
            token_id=claims.token_id,
            scopes=sorted(claims.scopes),
            issued_at=claims.issued_at,
            expires_at=claims.expires_at,
        )
    )
    await db.flush()
    return token


async def read_opaque_token(sessions: async_sessionmaker[AsyncSession], token: str) -> Claims:
    """The claims of this token, expired or not. Raises InvalidToken when there is no such token."""
    statement = (
        select(OpaqueToken, Session.user_id, Session.client_id)
        .join(Session)
        .where(OpaqueToken.digest == token_digest(token))
    )
    async with sessions() as db:
        found = (await db.execute(statement)).one_or_none()
    if found is None:
        raise InvalidToken
    row, user_id, client_id = found
    return Claims(
        subject=user_id,
        session_id=row.session_id,
        client_id=client_id or FIRST_PARTY_CLIENT,
        scopes=frozenset(row.scopes),
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        token_id=row.token_id,
    )


def token_digest(token: str) -> bytes:
    """What stands for the token where the token itself must not be kept."""
    return digest(token)
