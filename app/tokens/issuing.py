"""Issuing access tokens: the grants of RFC 6749 that this service offers."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.grants import issuable_scopes
from app.access.scopes import parse_scope
from app.identity.login import authenticate
from app.identity.passwords import PasswordHasher
from app.tokens.jwt import Claims, JwtFormat

FIRST_PARTY_CLIENT = "scopegate"
"""The `client_id` of a token that no registered client asked for."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token as it is given out."""

    value: str
    lifetime: timedelta
    scopes: frozenset[str]


async def password_grant(
    sessions: async_sessionmaker[AsyncSession],
    hasher: PasswordHasher,
    tokens: JwtFormat,
    *,
    username: str,
    password: str,
    scope: str | None,
    lifetime: timedelta,
    now: datetime,
) -> AccessToken:
    """RFC 6749 §4.3: a token whose scopes are requested ∩ granted now.

    `scope` is the request's parameter, None when absent. Raises InvalidScope when it is malformed
    or nothing of it is granted, InvalidGrant when the credentials are not good.
    """
    requested = None if scope is None else parse_scope(scope)
    user = await authenticate(sessions, hasher, username=username, password=password)
    async with sessions() as session:
        scopes = await issuable_scopes(session, user.id, requested=requested, now=now)
    claims = Claims(
        subject=user.id,
        client_id=FIRST_PARTY_CLIENT,
        scopes=scopes,
        issued_at=now,
        expires_at=now + lifetime,
        token_id=str(uuid.uuid4()),
    )
    return AccessToken(tokens.encode(claims), lifetime, scopes)
