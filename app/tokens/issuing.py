"""Issuing tokens: the grants of RFC 6749 that this service offers."""

import secrets
import uuid
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from uuid_utils.compat import uuid7

from app.access.holdings import Issuable, granted_until, issuable_scopes
from app.access.resources import choose_resource, within_resources
from app.db.work import Actor, Work
from app.errors import UnauthorizedClient
from app.identity.candidates import Authentication
from app.identity.clients import (
    FIRST_PARTY_CLIENT,
    AskingClient,
    Client,
    ClientRefused,
    is_current,
)
from app.identity.login import LoginRefused
from app.identity.models import Session
from app.identity.registrations import is_registered
from app.identity.session_opening import ChangedMeanwhile, Opening, open_session
from app.identity.session_writes import end_surplus_sessions
from app.identity.sessions import user_agent_of
from app.tokens.id_tokens import IdTokens
from app.tokens.jwt import Claims, JwtFormat
from app.tokens.opaque import new_opaque_token, store_opaque_token
from app.tokens.refresh import Grace, Holdings, RefreshTokens, Terms

CLIENT_CHANGED = "the client was changed meanwhile"
REFRESH_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Issued:
    """What a grant gives out."""

    access_token: str
    claims: Claims
    refresh_token: str | None
    id_token: str | None = None

    @property
    def lifetime(self) -> timedelta:
        """Of the access token."""
        return self.claims.expires_at - self.claims.issued_at


@dataclass(frozen=True, slots=True)
class Issuer:
    """How this service makes tokens, and how long they live."""

    jwt: JwtFormat
    id_tokens: IdTokens
    refresh_tokens: RefreshTokens
    opaque: bool
    access_token_lifetime: timedelta
    session_lifetime: timedelta
    session_idle_timeout: timedelta
    refresh_grace: Grace
    max_sessions: int
    """Live sessions of a person; service accounts have any number."""

    @property
    def of_people(self) -> tuple[timedelta, timedelta]:
        """How long a person's session lives: in any case, and without a use."""
        return self.session_lifetime, self.session_idle_timeout

    def write(
        self,
        session: Session,
        issuable: Issuable,
        *,
        now: datetime,
        refreshable: bool,
        resource: str | None = None,
    ) -> Issued:
        """Return a new access token of this session, for a resource or none, and a refresh token.

        The access token outlives neither the session nor the first of the grants behind its scopes.
        Raises InvalidScope for more scopes than a token has room for.
        """
        ends = filter(None, (session.idle_expires_at, issuable.ends_at))
        claims = Claims(
            subject=session.user_id,
            session_id=session.id,
            client_id=session.client_id or FIRST_PARTY_CLIENT,
            scopes=issuable.scopes,
            issued_at=now,
            expires_at=min(now + self.access_token_lifetime, *ends),
            token_id=uuid.uuid4(),
            audience=resource,
        )
        access_token = new_opaque_token() if self.opaque else self.jwt.encode(claims)
        refresh_token = self.refresh_tokens.write(session) if refreshable else None
        return Issued(access_token, claims, refresh_token)

    async def store(self, work: Work[Actor], issued: Issued) -> None:
        """Keep what an opaque token says. Its session is in the database already."""
        if self.opaque:
            await store_opaque_token(work.db, issued.access_token, issued.claims)


async def password_grant(
    work: Work[Actor],
    issuer: Issuer,
    *,
    person: Authentication,
    client: Client | None,
    requested: AbstractSet[str] | None,
) -> Issued:
    """RFC 6749 §4.3, for a person who was authenticated: scopes are requested ∩ granted now.

    Opens a session, bound to the client if one authenticated, and ends the oldest when there are
    more than `max_sessions`. Raises InvalidScope when nothing requested is granted; LoginRefused or
    ClientRefused when the person or the client was disabled or changed meanwhile; and
    UnauthorizedClient for a registered client: by this grant no person agrees to anything, so its
    ceiling would bound nothing.
    """
    if client is not None and await is_registered(work.db, client.id):
        raise UnauthorizedClient("A registered client signs people in by authorization codes.")
    granted = await granted_until(work.db, person.user_id, now=work.now)
    issuable = await issuable_scopes(work.db, granted, requested=requested)
    session = new_session(
        work, person.user_id, issuable.scopes, lifetimes=issuer.of_people, client=client
    )
    issued = issuer.write(session, issuable, now=work.now, refreshable=True)
    others = issuer.max_sessions - 1
    try:
        has_more = await open_session(work, session, Opening(person, client), most=others)
    except ChangedMeanwhile as changed:
        if client is None or await is_current(work.db, client):
            raise LoginRefused(reason=str(changed)) from None
        raise ClientRefused(reason=CLIENT_CHANGED) from None
    # Its statement is committed. What comes now has a connection of its own.
    await work.commit()
    await issuer.store(work, issued)
    if has_more:
        await work.commit()
        async with work.database.work(work.actor) as later:
            await end_surplus_sessions(later, person.user_id, most=others, but=session.id)
    return issued


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
    issuable = await issuable_scopes(work.db, client.granted, requested=requested)
    lifetime = issuer.access_token_lifetime
    session = new_session(
        work, client.id, issuable.scopes, lifetimes=(lifetime, lifetime), client=client
    )
    issued = issuer.write(session, issuable, now=work.now, refreshable=False)
    try:
        await open_session(work, session, Opening(client=client), most=None)
    except ChangedMeanwhile:
        raise ClientRefused(reason=CLIENT_CHANGED) from None
    await work.commit()
    await issuer.store(work, issued)
    return issued


def new_session(
    work: Work[Actor],
    user_id: uuid.UUID,
    scopes: AbstractSet[str],
    *,
    lifetimes: tuple[timedelta, timedelta],
    client: Client | None = None,
) -> Session:
    """Return a session of generation 0 that begins now. It is not in the database yet.

    `lifetimes`: until it ends in any case, and until it ends without a use.
    """
    longest, idle = lifetimes
    return Session(
        id=uuid7(),
        user_id=user_id,
        client_id=client and client.client_id,
        consent_id=None,
        scopes=sorted(scopes),
        created_at=work.now,
        last_used_at=work.now,
        expires_at=work.now + longest,
        idle_expires_at=work.now + min(longest, idle),
        address=work.actor.origin.address,
        user_agent=user_agent_of(work.actor),
        generation=0,
        refresh_key=secrets.token_bytes(REFRESH_KEY_BYTES),
    )


async def write_for_resource(
    work: Work[Actor], issuer: Issuer, session: Session, issuable: Issuable, *, named: str | None
) -> Issued:
    """Return tokens of this session, for the resource that is named or the only one of its own.

    The access token has the scopes of that resource alone. Raises InvalidTarget.
    """
    resource = choose_resource(session.resources, named)
    if resource is not None:
        scopes = await within_resources(work.db, issuable.scopes, [resource])
        issuable = replace(issuable, scopes=scopes)
    return issuer.write(session, issuable, now=work.now, refreshable=True, resource=resource)


async def refresh_grant(
    work: Work[Actor],
    issuer: Issuer,
    *,
    refresh_token: str,
    client: AskingClient,
    requested: AbstractSet[str] | None,
    resource: str | None = None,
) -> Issued:
    """RFC 6749 §6: a new pair; scopes are the session's ∩ requested ∩ granted now.

    Of a registered client's session, they are within its ceiling and the person's consent too.

    Asking less narrows this access token, not the session. What `work` does is committed at once.
    Raises InvalidGrant for a token that is not good, RefreshTokenReused (which ends the session)
    for one that was used before, InvalidScope for more than was issued at login, and InvalidTarget
    for a resource that is none of the session's; then the token stays good.
    """

    async def issue(session: Session, holdings: Holdings) -> Issued:
        issuable = await issuable_scopes(
            work.db,
            holdings.granted,
            requested=requested,
            within=frozenset(session.scopes),
            limit=holdings.limit,
        )
        return await write_for_resource(work, issuer, session, issuable, named=resource)

    issued = await issuer.refresh_tokens.use(
        work,
        refresh_token,
        issue,
        client=client,
        terms=Terms(issuer.refresh_grace, issuer.session_idle_timeout),
    )
    await issuer.store(work, issued)
    return issued
