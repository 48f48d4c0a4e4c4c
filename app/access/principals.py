"""The live principal: who a request is from, and which of its token's scopes count right now."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.holdings import in_force
from app.access.models import Grant
from app.access.scopes import ADMIN, effective_scopes, satisfies
from app.errors import InsufficientScope
from app.identity.models import Session, User
from app.identity.sessions import is_live


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request, with what they hold at this moment and what the token lets them use."""

    user_id: uuid.UUID
    session_id: uuid.UUID
    username: str
    kind: str
    created_at: datetime
    granted: Mapping[str, datetime | None]
    """Held now, and when each ends."""
    scopes: frozenset[str]
    """Effective: the token's scopes that are granted now."""

    @property
    def is_admin(self) -> bool:
        """Whether this request may do everything."""
        return ADMIN in self.scopes

    def require(self, required: tuple[str, ...]) -> None:
        """Return only if every required scope is effective; else raise InsufficientScope."""
        if not satisfies(self.scopes, frozenset(required)):
            raise InsufficientScope(required)


async def load_principal(
    sessions: async_sessionmaker[AsyncSession],
    *,
    session_id: uuid.UUID,
    user_id: uuid.UUID,
    token_scopes: frozenset[str],
    now: datetime,
) -> Principal | None:
    """The principal as the database has it now, by one indexed query.

    None when this user has no such session, it has ended, or the user is gone or disabled.
    """
    statement = (
        select(User.username, User.kind, User.created_at, Grant.scope, Grant.expires_at)
        .join(Session, Session.user_id == User.id)
        .outerjoin(Grant, and_(Grant.user_id == User.id, in_force(now)))
        .where(
            Session.id == session_id,
            User.id == user_id,
            is_live(now),
            User.disabled_at.is_(None),
        )
    )
    async with sessions() as session:
        rows = (await session.execute(statement)).all()
    if not rows:
        return None
    username, kind, created_at, *_ = rows[0]
    # One row a grant; without any, one that has none.
    granted = {row.scope: row.expires_at for row in rows if row.scope is not None}
    return Principal(
        user_id=user_id,
        session_id=session_id,
        username=username,
        kind=kind,
        created_at=created_at,
        granted=granted,
        scopes=effective_scopes(token_scopes, granted.keys()),
    )
