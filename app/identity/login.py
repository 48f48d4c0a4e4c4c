"""Login: from a name and a password to a user; and changing that password."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.log import record
from app.db.work import Actor, Database
from app.errors import DomainError, InvalidGrant, InvalidToken, audited
from app.identity.candidates import Authentication, Candidate, account_key, find_candidates
from app.identity.hash_queue import Disconnected, Source, source_of
from app.identity.links import keep_links
from app.identity.locks import hold_users
from app.identity.models import Session, User
from app.identity.networks import network_of
from app.identity.passwords import PasswordHasher, check_password
from app.identity.refusals import audit_refusal
from app.identity.session_writes import end_sessions_of
from app.identity.sessions import is_live
from app.identity.throttle import CURRENT_PASSWORD, LOGIN, AttemptSource, Throttle, record_failure


class LoginRefused(InvalidGrant):
    """One answer for every reason: a caller must not learn which names exist."""

    text = "The username or the password is wrong."


class WrongPassword(DomainError):
    """The holder of the token does not know the password."""

    status = 403
    text = "The current password is wrong."


@dataclass(frozen=True, slots=True)
class Guard:
    """What a password is checked with: the database, the hasher and the throttle."""

    database: Database
    hasher: PasswordHasher
    throttle: Throttle


@asynccontextmanager
async def authenticate(
    guard: Guard, *, username: str, password: str, actor: Actor, gone: Disconnected | None = None
) -> AsyncIterator[Authentication]:
    """Yield the person with this name and password; the request belongs in the block.

    An error raised in the block is audited, so that a correct password can't be tested without a
    trace. An outdated hash is replaced. No connection is held while the password is hashed. Raises
    LoginRefused for an unknown name, a wrong password, a disabled user or a service account: all
    cost the same work and are audited. Raises Throttled, before hashing, after too many failures;
    TooManyLogins when the account's share of the hashing queue is used up or the queue is full;
    CallerGone when the client disconnected in that queue, with nothing hashed or audited.
    """
    database, hasher, throttle = guard.database, guard.hasher, guard.throttle
    # The name that was typed, not the user's id: names that exist and others wait alike.
    queued = Source("logins", network_of(actor.origin.address), account_key(username))
    hasher.check_room(queued)  # First: a storm must not get at the database either.
    source = AttemptSource(account_key(username), None, actor.origin.address)
    attempt = throttle.attempt(LOGIN, source, now=database.now())
    [user] = await find_candidates(throttle, [username], attempt)
    attempt = replace(attempt, user_id=user.id if user else None)
    correct, renewed = await hasher.verify(
        password,
        user.password_hash if user else None,
        source=queued,
        at_turn=partial(throttle.look_again, attempt),
        gone=gone,
    )
    refusal = _refusal(user, correct)
    if refusal:
        # An unknown name is not audited: people sometimes type their password there.
        await record_failure(database, throttle, attempt, actor=actor, reason=refusal)
        raise audited(LoginRefused())
    assert user is not None
    assert user.password_hash is not None
    found = Authentication(user.id, renewed or user.password_hash, at=database.now())
    if renewed:
        async with database.work(actor) as work:
            replaced = await _replace_hash(work.db, user.id, old=user.password_hash, new=renewed)
            if replaced:
                await keep_links(work, user.id)
        if not replaced:
            # A concurrent login has also renewed the hash, or the password was changed: verify
            # again with the new hash.
            async with authenticate(
                guard, username=username, password=password, actor=actor, gone=gone
            ) as found:
                yield found
            return
    async with audit_refusal(database, user.id, right="password", actor=actor):
        yield found


@asynccontextmanager
async def confirm_password(
    guard: Guard, user_id: uuid.UUID, *, session_id: uuid.UUID, password: str, actor: Actor
) -> AsyncIterator[User]:
    """Yield the user if this is their current password: for every route that asks for it.

    The request belongs in the block: what refuses it after that is audited. Failures are charged to
    the session too, so a stolen token guesses from however many addresses no faster than from one.
    Raises WrongPassword, which is audited, Throttled for what failed in this session or at this
    address, or TooManyLogins when the hashing queue is full.
    """
    database, hasher, throttle = guard.database, guard.hasher, guard.throttle
    async with database.reading() as db:
        user = await db.get_one(User, user_id)
        source = AttemptSource(user.username, user_id, actor.origin.address, session_id)
        attempt = throttle.attempt(CURRENT_PASSWORD, source, now=database.now())
        await throttle.admit(db, attempt)
    correct, _ = await hasher.verify(
        password,
        user.password_hash,
        source=source_of(actor),
        at_turn=partial(throttle.look_again, attempt),
    )
    if not correct:
        reason = "wrong current password"
        await record_failure(database, throttle, attempt, actor=actor, reason=reason)
        raise audited(WrongPassword())
    async with audit_refusal(database, user_id, right="password", actor=actor):
        yield user


async def change_password(
    guard: Guard, user_id: uuid.UUID, *, session_id: uuid.UUID, current: str, new: str, actor: Actor
) -> None:
    """Replace the password, and end all logins of the user but this one.

    Personal access tokens go on: they were made by the person, and no password opens them.

    Raises what `confirm_password` raises, WeakPassword, or InvalidToken when this session has
    ended. A refusal is audited whether the current password was wrong or right.
    """
    async with confirm_password(
        guard, user_id, session_id=session_id, password=current, actor=actor
    ) as user:
        checked = check_password(new, username=user.username)
        password_hash = await guard.hasher.hash(checked, source=source_of(actor))
        async with guard.database.work(actor) as work:
            await hold_users(work.db, user_id)
            live = select(is_live(work.now)).where(Session.id == session_id)
            if not await work.db.scalar(live):
                raise InvalidToken
            if not await _replace_hash(work.db, user_id, old=user.password_hash, new=password_hash):
                # It was changed meanwhile, so this one is not the current one any more.
                raise WrongPassword(reason="changed meanwhile")
            record(work, "password.changed", subject=user_id)
            reason = "password changed"
            await end_sessions_of(work, user_id, reason=reason, but=session_id, keep_tokens=True)


def _refusal(user: Candidate | None, correct: bool) -> str | None:
    """Why this login is refused, in words for the audit log alone."""
    if user is None:
        return "unknown user"
    if user.kind != "person":
        return "service account"
    if not correct:
        return "wrong password"
    return "disabled" if user.disabled_at is not None else None


async def _replace_hash(db: AsyncSession, user_id: uuid.UUID, *, old: str | None, new: str) -> bool:
    statement = (
        update(User)
        .where(User.id == user_id, User.password_hash == old)
        .values(password_hash=new)
        .returning(User.id)
    )
    return await db.scalar(statement) is not None
