"""A person's own logins and personal access tokens, as they see them; and ending all but one."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.work import Actor, Work
from app.identity.models import BrowserSession, Consent, Registration, Session
from app.identity.session_writes import end_sessions_of
from app.identity.sessions import is_live, live_sessions, of_current_epoch


@dataclass(frozen=True, slots=True)
class OwnSession:
    """One of a person's live logins."""

    id: uuid.UUID
    application: str | None
    """The name of the client that signed the person in. None: one without a name, or no client."""
    in_browser: bool
    """Whether it is of this service's own pages."""
    created_at: datetime
    last_used_at: datetime
    address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class OwnToken:
    """One of a person's live personal access tokens."""

    id: uuid.UUID
    """Its session's."""
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    """To the minute; None: never."""

    @classmethod
    def of(cls, session: Session) -> Self:
        """Return the token that this session is."""
        assert session.token_name is not None
        # Made with both times the same: the first use is noted whenever it is.
        was_used = session.last_used_at > session.created_at
        return cls(
            session.id,
            session.token_name,
            session.scopes,
            session.created_at,
            session.expires_at,
            session.last_used_at if was_used else None,
        )


async def list_tokens(
    db: AsyncSession,
    user_id: uuid.UUID,
    *,
    after: uuid.UUID | None = None,
    limit: int,
    now: datetime,
) -> list[OwnToken]:
    """Return up to `limit` of the person's live tokens. The one that expires first comes first.

    `after` is the token that the page before ended with.
    """
    found = await live_sessions(db, user_id, after=after, limit=limit, now=now, tokens_only=True)
    return [OwnToken.of(each) for each in found]


async def list_own_sessions(
    db: AsyncSession, user_id: uuid.UUID, *, first: uuid.UUID, limit: int, now: datetime
) -> list[OwnSession]:
    """Return up to `limit` live logins of the person: `first`, then what was used last."""
    statement = (
        select(
            Session.id,
            func.coalesce(Registration.name, Session.client_id),
            BrowserSession.session_id.is_not(None),
            Session.created_at,
            Session.last_used_at,
            Session.address,
            Session.user_agent,
        )
        .outerjoin(Consent, Consent.id == Session.consent_id)
        .outerjoin(Registration, Registration.id == Consent.registration_id)
        .outerjoin(BrowserSession, BrowserSession.session_id == Session.id)
        .where(of_current_epoch(user_id), is_live(now), Session.token_name.is_(None))
        .order_by(Session.id != first, Session.last_used_at.desc(), Session.id.desc())
        .limit(limit)
    )
    return [OwnSession(*row) for row in await db.execute(statement)]


async def end_other_sessions(work: Work[Actor], session_id: uuid.UUID) -> None:
    """End all sessions of the actor but this one, personal access tokens too."""
    assert work.actor.user_id is not None
    await end_sessions_of(work, work.actor.user_id, reason="ended by its user", but=session_id)
