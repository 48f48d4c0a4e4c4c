"""Issuing tokens: the grants of RFC 6749 that this service offers."""

import uuid
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.holdings import issuable_scopes
from app.audit.log import Actor
from app.identity.clients import FIRST_PARTY_CLIENT, Client, confirm_client
from app.identity.locks import share_users
from app.identity.login import confirm_login
from app.identity.models import Session, User
from app.identity.sessions import end_surplus_sessions, open_session
from app.identity.throttle import remember_network
from app.tokens.jwt import Claims, JwtFormat
from app.tokens.opaque import write_opaque_token
from app.tokens.refresh import Grace, RefreshTokens


@dataclass(frozen=True, slots=True)
class Issued:
    """What a grant gives out."""

    access_token: str
    lifetime: timedelta
    scopes: frozenset[str]
    refresh_token: str | None


@dataclass(frozen=True, slots=True)
class Issuer:
    """How this service makes tokens, and how long they live."""

    jwt: JwtFormat
    refresh_tokens: RefreshTokens
    opaque: bool
    access_token_lifetime: timedelta
    session_lifetime: timedelta
    session_idle_timeout: timedelta
    refresh_grace: Grace
    max_sessions: int
    """Live sessions of a person; service accounts have any number."""

    async def issue(
        self,
        session: AsyncSession,
        opened: Session,
        *,
        scopes: frozenset[str],
        refreshable: bool,
        now: datetime,
    ) -> Issued:
        """A new access token of this session, which it never outlives; and a refresh token."""
        lifetime = min(self.access_token_lifetime, opened.idle_expires_at - now)
        claims = Claims(
            subject=opened.user_id,
            session_id=opened.id,
            client_id=opened.client_id or FIRST_PARTY_CLIENT,
            scopes=scopes,
            issued_at=now,
            expires_at=now + lifetime,
            token_id=uuid.uuid4(),
        )
        if self.opaque:
            access_token = await write_opaque_token(session, claims)
        else:
            access_token = self.jwt.encode(claims)
        refresh_token = self.refresh_tokens.write(opened) if refreshable else None
        return Issued(access_token, lifetime, scopes, refresh_token)


async def password_grant(
    session: AsyncSession,
    issuer: Issuer,
    *,
    user: User,
    client: Client | None,
    requested: AbstractSet[str] | None,
    by: Actor,
    now: datetime,
) -> Issued:
    """RFC 6749 §4.3, for a user who was authenticated: scopes are requested ∩ granted now.

    Opens a session, bound to the client if one authenticated, and ends the oldest when there are
    more than `max_sessions`. Raises InvalidScope when nothing
    requested is granted; LoginRefused or ClientRefused when the user or the client was disabled or
    changed meanwhile.
    """
    if client:
        # Both before either is asked for by itself: only together are they taken in order.
        await share_users(session, user.id, client.id)
        await confirm_client(session, client)
    await confirm_login(session, user)
    scopes = await issuable_scopes(session, user.id, requested=requested, now=now)
    opened = await open_session(
        session,
        user_id=user.id,
        client_id=client.client_id if client else None,
        scopes=scopes,
        by=by,
        lifetime=issuer.session_lifetime,
        idle_timeout=issuer.session_idle_timeout,
        now=now,
    )
    await end_surplus_sessions(
        session, opened, most=issuer.max_sessions, by=by.signed_in_as(user.id), now=now
    )
    await remember_network(session, user.id, address=by.address, now=now)
    return await issuer.issue(session, opened, scopes=scopes, refreshable=True, now=now)


async def client_credentials_grant(
    session: AsyncSession,
    issuer: Issuer,
    *,
    client: Client,
    requested: AbstractSet[str] | None,
    by: Actor,
    now: datetime,
) -> Issued:
    """RFC 6749 §4.4, for a service account that authenticated: an access token and no other.

    Its session lasts as long as the token, so that it can be ended like any other. Raises
    InvalidScope when nothing requested is granted, ClientRefused when the account was disabled or
    the secret revoked meanwhile.
    """
    await confirm_client(session, client)
    scopes = await issuable_scopes(session, client.id, requested=requested, now=now)
    opened = await open_session(
        session,
        user_id=client.id,
        client_id=client.client_id,
        scopes=scopes,
        by=by,
        lifetime=issuer.access_token_lifetime,
        idle_timeout=issuer.access_token_lifetime,
        now=now,
    )
    return await issuer.issue(session, opened, scopes=scopes, refreshable=False, now=now)


async def refresh_grant(
    session: AsyncSession,
    issuer: Issuer,
    *,
    refresh_token: str,
    client: Client | None,
    requested: AbstractSet[str] | None,
    by: Actor,
    now: datetime,
) -> Issued:
    """RFC 6749 §6: a new pair; scopes are the session's ∩ requested ∩ granted now.

    Asking less narrows this access token, not the session. Raises InvalidGrant for a token that
    is not good, RefreshTokenReused (which ends the session) for one that was used before,
    InvalidScope for more than was issued at login, and ClientRefused when the client's secret was
    revoked meanwhile; then the token stays good.
    """
    if client:
        await confirm_client(session, client)
    refreshed = await issuer.refresh_tokens.rotate(
        session,
        refresh_token,
        client_id=client.client_id if client else None,
        grace=issuer.refresh_grace,
        idle_timeout=issuer.session_idle_timeout,
        by=by,
        now=now,
    )
    scopes = await issuable_scopes(
        session,
        refreshed.user_id,
        requested=requested,
        within=frozenset(refreshed.scopes),
        now=now,
    )
    return await issuer.issue(session, refreshed, scopes=scopes, refreshable=True, now=now)
