"""The statements that a refresh runs: whose token it is, and its use."""

import uuid

from sqlalchemy import (
    Boolean,
    DateTime,
    Select,
    String,
    and_,
    bindparam,
    exists,
    func,
    not_,
    or_,
    select,
    update,
)

from app.access.client_limits import limit_on
from app.access.holdings import granted_to
from app.identity.models import Consent, Registration, Session
from app.identity.sessions import is_live


def use_up() -> Select[uuid.UUID]:
    """Return the statement that uses up a token of the session's present generation."""
    used = (
        update(Session)
        .where(*_PRESENTED, Session.generation == bindparam("used"))
        .values(
            generation=Session.generation + 1,
            rotated_at=_NOW,
            rotated_generation=Session.generation + 1,
            rotated_network=bindparam("network"),
            rotated_user_agent=bindparam("agent"),
            last_used_at=_NOW,
            idle_expires_at=func.least(Session.expires_at, bindparam("idle_until")),
        )
        .returning(Session.id)
        .cte("used_up")
    )
    # A SELECT around it: SQLAlchemy recognises an UPDATE only by walking through all of it.
    return select(used.c.id)


# Built once, because each refresh runs them.
_NOW = bindparam("at", type_=DateTime(timezone=True))
_CLIENT = bindparam("client", type_=String())
_AUTHENTICATED = bindparam("authenticated", type_=Boolean())
_OF_PUBLIC_CLIENT = (
    exists()
    .where(
        Consent.id == Session.consent_id,
        Registration.id == Consent.registration_id,
        Registration.account_id.is_(None),
    )
    .correlate(Session)
)
# A client with a secret must show it. A registered public one must name itself; of others, that
# password grants signed in, the name is ignored.
_OF_CLIENT = or_(
    and_(_AUTHENTICATED, Session.client_id == _CLIENT),
    and_(
        not_(_AUTHENTICATED),
        or_(
            Session.client_id.is_(None),
            and_(Session.client_id == _CLIENT, _OF_PUBLIC_CLIENT),
        ),
    ),
)
_PRESENTED = (
    Session.id == bindparam("session"),
    _OF_CLIENT,
    # A personal access token has no refresh token. If one were made, it would be refused.
    Session.token_name.is_(None),
    is_live(_NOW),
)
READ = (
    *("id", "user_id", "client_id", "scopes", "resources"),
    *("expires_at", "idle_expires_at", "generation"),
    *("refresh_key", "rotated_at", "rotated_generation", "rotated_network", "rotated_user_agent"),
)
FIND = select(
    granted_to(Session.user_id, _NOW).scalar_subquery(),
    limit_on(Session.consent_id).scalar_subquery(),
    *(getattr(Session, name) for name in READ),
).where(*_PRESENTED)
USE_UP = use_up()
