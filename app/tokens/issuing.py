"""Issuing tokens: the grants of RFC 6749 that this service offers."""

import uuid
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

from app.access.holdings import issuable_scopes
from app.db.work import Actor, Work
from app.identity.clients import FIRST_PARTY_CLIENT, Client, confirm_client
from app.identity.locks import share_users
from app.identity.login import confirm_login
from app.identity.models import Session, User
from app.identity.networks import remember_network
from app.identity.session_writes import end_surplus_sessions, open_session
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
        work: Work[Actor],
        opened: Session,
        *,
        scopes: frozenset[str],
        refreshable: bool,
    ) -> Issued:
        """A new access token of this session, which it never outlives; and a refresh token."""
        lifetime = min(self.access_token_lifetime, opened.idle_expires_at - work.now)
        claims = Claims(
            subject=opened.user_id,
            session_id=opened.id,
            client_id=opened.client_id or FIRST_PARTY_CLIENT,
            scopes=scopes,
            issued_at=work.now,
            expires_at=work.now + lifetime,
            token_id=uuid.uuid4(),
        )
        if self.opaque:
            access_token = await write_opaque_token(work.db, claims)
        else:
            access_token = self.jwt.encode(claims)
        refresh_token = self.refresh_tokens.write(opened) if refreshable else None
        return Issued(access_token, lifetime, scopes, refresh_token)


async def password_grant(
    work: Work[Actor],
    issuer: Issuer,
    *,
    user: User,
    client: Client | None,
    requested: AbstractSet[str] | None,
) -> Issued:
    """RFC 6749 §4.3, for a user who was authenticated: scopes are requested ∩ granted now.

    Opens a session, bound to the client if one authenticated, and ends the oldest when there are
    more than `max_sessions`. Raises InvalidScope when nothing requested is granted; LoginRefused or
    ClientRefused when the user or the client was disabled or changed meanwhile.
    """
    db = work.db
    if client:
        # Lock both in one call, which sorts the locks. The two checks below would take them one by
        # one.
        await share_users(db, user.id, client.id)
        await confirm_client(db, client)
    await confirm_login(db, user)
    scopes = await issuable_scopes(db, user.id, requested=requested, now=work.now)
    opened = await open_session(
        work,
        user_id=user.id,
        client_id=client.client_id if client else None,
        scopes=scopes,
        lifetime=issuer.session_lifetime,
        idle_timeout=issuer.session_idle_timeout,
    )
    await end_surplus_sessions(work, opened, most=issuer.max_sessions)
    await remember_network(work, user.id)
    return await issuer.issue(work, opened, scopes=scopes, refreshable=True)


async def client_credentials_grant(
    work: Work[Actor],
    issuer: Issuer,
    *,
    client: Client,
    requested: AbstractSet[str] | None,
) -> Issued:
    """RFC 6749 §4.4, for a service account that authenticated: an access token and no other.

    Its session lasts as long as the token, so that it can be ended like any other. Raises
    InvalidScope when nothing requested is granted, ClientRefused when the account was disabled or
    the secret revoked meanwhile.
    """
    await confirm_client(work.db, client)
    scopes = await issuable_scopes(work.db, client.id, requested=requested, now=work.now)
    opened = await open_session(
        work,
        user_id=client.id,
        client_id=client.client_id,
        scopes=scopes,
        lifetime=issuer.access_token_lifetime,
        idle_timeout=issuer.access_token_lifetime,
    )
    return await issuer.issue(work, opened, scopes=scopes, refreshable=False)


async def refresh_grant(
    work: Work[Actor],
    issuer: Issuer,
    *,
    refresh_token: str,
    client: Client | None,
    requested: AbstractSet[str] | None,
) -> Issued:
    """RFC 6749 §6: a new pair; scopes are the session's ∩ requested ∩ granted now.

    Asking less narrows this access token, not the session. Raises InvalidGrant for a token that
    is not good, RefreshTokenReused (which ends the session) for one that was used before,
    InvalidScope for more than was issued at login, and ClientRefused when the client's secret was
    revoked meanwhile; then the token stays good.
    """
    if client:
        await confirm_client(work.db, client)
    refreshed = await issuer.refresh_tokens.rotate(
        work,
        refresh_token,
        client_id=client.client_id if client else None,
        grace=issuer.refresh_grace,
        idle_timeout=issuer.session_idle_timeout,
    )
    scopes = await issuable_scopes(
        work.db,
        refreshed.user_id,
        requested=requested,
        within=frozenset(refreshed.scopes),
        now=work.now,
    )
    return await issuer.issue(work, refreshed, scopes=scopes, refreshable=True)
