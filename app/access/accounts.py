"""Accounts, as those who administer them change them."""

import uuid
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.authority import Caller, confirm_caller, keep_an_admin, managed_user
from app.errors import Refused
from app.identity.clients import revoke_secret, secrets_of
from app.identity.hash_queue import source_of
from app.identity.login import set_password
from app.identity.models import User
from app.identity.names import normalise_username
from app.identity.passwords import PasswordHasher, check_password
from app.identity.users import add_user, disable_user


async def create_user(
    session: AsyncSession,
    hasher: PasswordHasher,
    *,
    username: str,
    password: str,
    by: Caller,
    clock: Callable[[], datetime],
) -> User:
    """A new person. Nothing may have been asked of `session` before: hashing holds no connection.

    Raises UsernameTaken, Refused for an unfit name or password, TooManyLogins when the hashing
    queue is full, or what `confirm_caller` raises.
    """
    name = normalise_username(username)
    checked = check_password(password, username=name)
    password_hash = await hasher.hash(checked, source=source_of(by))
    await confirm_caller(session, by=by, now=clock())
    return await add_user(session, username=name, kind="person", password_hash=password_hash, by=by)


async def disable_account(
    session: AsyncSession, user_id: uuid.UUID, *, by: Caller, now: datetime, force: bool = False
) -> None:
    """No login and no token of this account counts any more.

    Raises UserNotFound, BeyondAuthority, and LastAdmin for the last admin, unless forced.
    """
    await managed_user(session, user_id, by=by, now=now)
    if not force:
        await keep_an_admin(session, user_id, now=now)
    await disable_user(session, user_id, by=by, now=now)


async def revoke_account_secret(
    session: AsyncSession,
    user_id: uuid.UUID,
    secret_id: uuid.UUID,
    *,
    by: Caller,
    now: datetime,
    force: bool = False,
) -> None:
    """Revoke a secret of a service account.

    Raises UserNotFound, SecretNotFound, BeyondAuthority, and LastAdmin for the only secret of the
    last admin, unless forced.
    """
    await managed_user(session, user_id, by=by, now=now)
    only = [each.id for each in await secrets_of(session, user_id)] == [secret_id]
    if only and not force:
        await keep_an_admin(session, user_id, now=now)
    await revoke_secret(session, user_id=user_id, secret_id=secret_id, by=by)


async def replace_password(
    sessions: async_sessionmaker[AsyncSession],
    hasher: PasswordHasher,
    *,
    user_id: uuid.UUID,
    password: str,
    by: Caller,
    clock: Callable[[], datetime],
) -> None:
    """Give a person another password, whatever it was, and end all their sessions.

    Takes sessions, not a session, because no connection may be held while the password is hashed.
    Raises UserNotFound, BeyondAuthority, Refused for a service account, WeakPassword, or
    TooManyLogins when the hashing queue is full.
    """
    async with sessions.begin() as session:
        user = await managed_user(session, user_id, by=by, now=clock(), for_good=True)
    if user.kind != "person":
        raise Refused("Only people have passwords: a service account has secrets.")
    checked = check_password(password, username=user.username)
    password_hash = await hasher.hash(checked, source=source_of(by))
    async with sessions.begin() as session:
        # Asked again: while it was hashed, the caller may have lost a scope, or the user got one.
        now = clock()
        await managed_user(session, user_id, by=by, now=now, for_good=True)
        await set_password(session, user_id, password_hash=password_hash, by=by, now=now)
