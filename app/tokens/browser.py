"""Signing in to this service's own pages: a session whose proof is a cookie, not a token."""

import secrets

from app.crypto import digest
from app.db.work import Actor, Work
from app.identity.candidates import Authentication
from app.identity.login import LoginRefused
from app.identity.session_opening import ChangedMeanwhile, Opening, open_session
from app.identity.session_writes import end_surplus_sessions
from app.tokens.issuing import Issuer, new_session


def new_cookie() -> str:
    """Return 256 random bits, as a cookie has them."""
    return secrets.token_urlsafe(32)


async def open_browser_session(
    work: Work[Actor], issuer: Issuer, authentication: Authentication
) -> str:
    """Open a session for a person who has shown their password; return its cookie.

    The cookie is always a new one, so one that was planted before stands for no session. What
    `work` does is committed at once. Raises LoginRefused when the person was disabled or changed
    meanwhile.
    """
    cookie, others = new_cookie(), issuer.max_sessions - 1
    user_id = authentication.user_id
    session = new_session(work, user_id, frozenset(), lifetimes=issuer.of_people)
    try:
        by = Opening(authentication, cookie=digest(cookie))
        has_more = await open_session(work, session, by, most=others)
    except ChangedMeanwhile as changed:
        raise LoginRefused(reason=str(changed)) from None
    await work.commit()
    if has_more:
        async with work.database.work(work.actor) as later:
            await end_surplus_sessions(later, user_id, most=others, but=session.id)
    return cookie
