"""Login: from a name and a password to a user; and changing or setting that password."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.audit.log import Actor, record
from app.errors import DomainError, InvalidGrant, InvalidToken, audited
from app.identity.hash_queue import Gone, Source, source_of
from app.identity.locks import hold_users, share_users
from app.identity.models import Session, User
from app.identity.names import username_key
from app.identity.passwords import PasswordHasher, check_password
from app.identity.refusals import audit_refusal
from app.identity.sessions import end_sessions_of, is_live
from app.identity.throttle import (
    CURRENT_PASSWORD,
    LOGIN,
    Throttle,
    network_of,
    record_failure,
)
from app.identity.users import find_user


class LoginRefused(InvalidGrant):
    """One answer for every reason: a caller must not learn which names exist."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("The username or the password is wrong.")
        self.reason = reason


class WrongPassword(DomainError):
    """Whoever holds the token does not know the password."""

    status = 403

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("The current password is wrong.")
        self.reason = reason


@asynccontextmanager
async def authenticate(
    sessions: async_sessionmaker[AsyncSession],
    hasher: PasswordHasher,
    throttle: Throttle,
    *,
    username: str,
    password: str,
    by: Actor,
    now: datetime,
    gone: Gone | None = None,
) -> AsyncIterator[User]:
    """Yield the person with this name and password; the request belongs in the block.

    What refuses the request after that is audited, so that no one tests a password unseen. A hash
    of an outdated kind is renewed on the way. Takes sessions, not a session, because no connection
    may be held while the password is hashed.
    Raises LoginRefused, after the same work and audited, for an unknown name, a wrong password, a
    disabled user and a service account alike; Throttled, before any, when too many of them came;
    TooManyLogins when the account's share of the hashing queue is used up, or the queue is full;
    CallerGone when the caller hung up in that queue, with nothing hashed and nothing told.
    """
    # The name that was typed, not the user's id: names that exist and others wait alike.
    source = Source("logins", network_of(by.address), username_key(username))
    hasher.check_room(source)  # First: a storm must not get at the database either.
    # Two looks that need no transaction, whose beginning and end would be two more round trips.
    async with throttle.autocommit() as session:
        user = await find_user(session, username)
        user_id = user.id if user else None
        attempt = await throttle.admit(
            session, LOGIN, name=username, user_id=user_id, address=by.address, now=now
        )
    password_hash = user.password_hash if user else None
    correct, renewed = await hasher.verify(
        password,
        password_hash,
        source=source,
        at_turn=partial(throttle.look_again, attempt),
        gone=gone,
    )
    refusal = _refusal(user, correct)
    if refusal:
        # Not the name, when nobody has it: people type their password there.
        await record_failure(
            sessions, throttle, attempt, subject=user_id, by=by, reason=refusal, now=now
        )
        raise audited(LoginRefused())
    assert user is not None
    if renewed:
        async with sessions.begin() as session:
            replaced = await _replace_hash(session, user.id, old=user.password_hash, new=renewed)
        if not replaced:
            # Another login of theirs has renewed it too, or it was changed: once more, by that one.
            async with authenticate(
                sessions,
                hasher,
                throttle,
                username=username,
                password=password,
                by=by,
                now=now,
                gone=gone,
            ) as user:
                yield user
            return
        user.password_hash = renewed
    async with audit_refusal(sessions, user.id, right="password", by=by, now=now):
        yield user


async def confirm_login(session: AsyncSession, user: User) -> None:
    """Return only if the login of a moment ago still holds, and keep it so until the commit.

    Without this, a login could open a session just after a new password ended all of them.
    Raises LoginRefused.
    """
    await share_users(session, user.id)
    values = {"user_id": user.id, "password_hash": user.password_hash}
    if await session.scalar(_UNCHANGED, values) is None:
        raise LoginRefused("changed meanwhile")


# Built once, because each login asks it.
_UNCHANGED = select(User.id).where(
    User.id == bindparam("user_id"),
    User.password_hash == bindparam("password_hash"),
    User.disabled_at.is_(None),
)


@asynccontextmanager
async def confirm_password(
    sessions: async_sessionmaker[AsyncSession],
    hasher: PasswordHasher,
    throttle: Throttle,
    *,
    user_id: uuid.UUID,
    session_id: uuid.UUID,
    password: str,
    by: Actor,
    now: datetime,
) -> AsyncIterator[User]:
    """Yield the user if this is their current password: for every route that asks for it.

    The request belongs in the block: what refuses it after that is audited. Failures are charged to
    the session too, so a stolen token guesses from however many addresses no faster than from one.
    Raises WrongPassword, which is audited, Throttled for what failed in this session or at this
    address, or TooManyLogins when the hashing queue is full.
    """
    async with sessions() as session:
        user = await session.get_one(User, user_id)
        attempt = await throttle.admit(
            session,
            CURRENT_PASSWORD,
            name=user.username,
            user_id=user_id,
            address=by.address,
            session_id=session_id,
            now=now,
        )
    correct, _ = await hasher.verify(
        password,
        user.password_hash,
        source=source_of(by),
        at_turn=partial(throttle.look_again, attempt),
    )
    if not correct:
        reason = "wrong current password"
        await record_failure(
            sessions, throttle, attempt, subject=user_id, by=by, reason=reason, now=now
        )
        raise audited(WrongPassword())
    async with audit_refusal(sessions, user_id, right="password", by=by, now=now):
        yield user


async def change_password(
    sessions: async_sessionmaker[AsyncSession],
    hasher: PasswordHasher,
    throttle: Throttle,
    *,
    user_id: uuid.UUID,
    session_id: uuid.UUID,
    current: str,
    new: str,
    by: Actor,
    now: datetime,
) -> None:
    """Replace the password, and end all sessions of the user but this one.

    Raises what `confirm_password` raises, WeakPassword, or InvalidToken when this session has
    ended. A refusal is audited whether the current password was wrong or right.
    """
    async with confirm_password(
        sessions,
        hasher,
        throttle,
        user_id=user_id,
        session_id=session_id,
        password=current,
        by=by,
        now=now,
    ) as user:
        checked = check_password(new, username=user.username)
        password_hash = await hasher.hash(checked, source=source_of(by))
        async with sessions.begin() as session:
            await hold_users(session, user_id)
            if not await session.scalar(select(is_live(now)).where(Session.id == session_id)):
                raise InvalidToken
            if not await _replace_hash(session, user_id, old=user.password_hash, new=password_hash):
                # It was changed meanwhile, so this one is not the current one any more.
                raise WrongPassword("changed meanwhile")
            record(session, "password.changed", by=by, subject=user_id)
            await end_sessions_of(
                session, user_id, reason="password changed", by=by, now=now, but=session_id
            )


async def set_password(
    session: AsyncSession, user_id: uuid.UUID, *, password_hash: str, by: Actor, now: datetime
) -> None:
    """Give a person another password, whatever it was, and end all their sessions."""
    await hold_users(session, user_id)
    await session.execute(
        update(User).where(User.id == user_id).values(password_hash=password_hash)
    )
    record(session, "password.changed", by=by, subject=user_id)
    await end_sessions_of(session, user_id, reason="password set", by=by, now=now)


def _refusal(user: User | None, correct: bool) -> str | None:
    """Why this login is refused, in words for the audit log alone."""
    if user is None:
        return "unknown user"
    if user.kind != "person":
        return "service account"
    if not correct:
        return "wrong password"
    return "disabled" if user.disabled_at is not None else None


async def _replace_hash(
    session: AsyncSession, user_id: uuid.UUID, *, old: str | None, new: str
) -> bool:
    statement = (
        update(User)
        .where(User.id == user_id, User.password_hash == old)
        .values(password_hash=new)
        .returning(User.id)
    )
    return await session.scalar(statement) is not None
