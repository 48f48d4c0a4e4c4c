"""Revocation: the holder of a token may end it, and with it its session (RFC 7009)."""

from functools import partial

from app.db.work import Actor, Database
from app.identity.session_writes import end_session
from app.tokens.lookup import find_token
from app.tokens.refresh import RefreshTokens
from app.tokens.verification import AccessTokens


async def revoke_token(
    token: str,
    refresh_tokens: RefreshTokens,
    access_tokens: AccessTokens,
    database: Database,
    *,
    actor: Actor,
) -> None:
    """End the session of an access or refresh token; nothing happens for a string that is neither.

    By the session and never by the token's bytes, which can be rewritten. A token that has expired
    or was used up will do: who once held it may sign out. One connection at a time.
    """
    read = partial(access_tokens.read, now=database.now())
    found = await find_token(token, refresh_tokens, database.reading, read=read)
    if found is not None:
        async with database.work(actor.signed_in_as(found.subject)) as work:
            await end_session(work, found.session_id, reason="token revoked")
