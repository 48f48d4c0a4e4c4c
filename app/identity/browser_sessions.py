"""Browser sessions: who uses this service's own pages, by the cookie of their browser.

Such a session is one like any other: listed, ended and enforced the same. It has no tokens.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import DateTime, LargeBinary, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.crypto import digest
from app.db.work import Actor, Work
from app.identity.models import BrowserSession, Session, User
from app.identity.sessions import is_live


@dataclass(frozen=True, slots=True)
class BrowserLogin:
    """A person who is signed in to this service's own pages."""

    session_id: uuid.UUID
    user_id: uuid.UUID
    username: str
    signed_in_at: datetime
    """When they have shown who they are."""
    methods: list[str]
    """By what: names of RFC 8176."""
    email: str | None = None
    email_verified: bool = False


async def find_browser_login(
    db: AsyncConnection | AsyncSession, cookie: str, *, now: datetime
) -> BrowserLogin | None:
    """Return who is signed in with this cookie; None when the session has ended."""
    values = {"digest": digest(cookie), "now": now}
    row = (await db.execute(_LOGIN, values)).one_or_none()
    return BrowserLogin(*row) if row else None


# Built once, because every page asks for it.
_LOGIN = (
    select(
        Session.id,
        User.id,
        User.username,
        BrowserSession.signed_in_at,
        BrowserSession.methods,
        User.email,
        User.email_verified_at.is_not(None),
    )
    .join(Session, Session.id == BrowserSession.session_id)
    .join(User, User.id == Session.user_id)
    .where(
        BrowserSession.digest == bindparam("digest", type_=LargeBinary()),
        is_live(bindparam("now", type_=DateTime(timezone=True))),
    )
)


async def replace_cookie(work: Work[Actor], session_id: uuid.UUID, *, old: str, new: str) -> bool:
    """Let another cookie stand for the session. False: the old one does not, any more."""
    statement = (
        update(BrowserSession)
        .where(BrowserSession.session_id == session_id, BrowserSession.digest == digest(old))
        .values(digest=digest(new))
        .returning(BrowserSession.session_id)
    )
    return await work.db.scalar(statement) is not None
