"""Users: their names; making, changing, finding and listing them."""

import unicodedata
import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.log import Actor, record
from app.db.changes import Change, announce
from app.errors import Conflict, NotFound, Refused
from app.identity.models import User
from app.identity.passwords import PasswordHasher, check_password
from app.identity.sessions import end_sessions_of

MAX_USERNAME = 128

Kind = Literal["person", "service"]


class UsernameTaken(Conflict):
    """Somebody has that name, perhaps in other letters' case."""

    def __init__(self) -> None:
        super().__init__("That username is taken: choose another.")


class UserNotFound(NotFound):
    """No user has that name or id."""

    def __init__(self) -> None:
        super().__init__("There is no such user.")


def normalise_username(username: str) -> str:
    """The name as it is kept and shown (NFKC). Raises Refused when it can't be a name."""
    name = unicodedata.normalize("NFKC", username)
    if not 1 <= len(name) <= MAX_USERNAME:
        raise Refused(f"A username has 1 to {MAX_USERNAME} characters.")
    if not name.isprintable() or any(character.isspace() for character in name):
        raise Refused("A username has no spaces and no control characters.")
    return name


def username_key(username: str) -> str:
    """The name as it is compared: one key for all spellings that a person would call the same.

    Folded here, not by Postgres' lower(), whose answer depends on the server's locale.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


async def create_user(
    session: AsyncSession,
    hasher: PasswordHasher,
    *,
    username: str,
    password: str,
    by: Actor,
) -> User:
    """A new person. Nothing may have been asked of `session` before: hashing holds no connection.

    Raises UsernameTaken, or Refused for an unfit name or password."""
    name = normalise_username(username)
    password_hash = await hasher.hash(check_password(password, username=name))
    return await add_user(session, username=name, kind="person", password_hash=password_hash, by=by)


async def add_user(
    session: AsyncSession, *, username: str, kind: Kind, password_hash: str | None, by: Actor
) -> User:
    """The row of a new user, whose name and password have been checked. Raises UsernameTaken."""
    user = User(
        username=username,
        username_key=username_key(username),
        kind=kind,
        password_hash=password_hash,
    )
    try:
        async with session.begin_nested():
            session.add(user)
    except IntegrityError:
        raise UsernameTaken from None
    await session.refresh(user)
    record(session, "user.created", by=by, subject=user.id, username=username, kind=kind)
    return user


async def rename_user(session: AsyncSession, user: User, *, username: str, by: Actor) -> None:
    """Give a person another name. Raises UsernameTaken, or Refused for an unfit name."""
    name, old = normalise_username(username), user.username
    if name == old:
        return
    if user.kind == "service":
        raise Refused("A service's name is its client_id, which never changes.")
    announce(session, Change("user", user.id))
    try:
        async with session.begin_nested():
            user.username, user.username_key = name, username_key(name)
    except IntegrityError:
        raise UsernameTaken from None
    record(session, "user.changed", by=by, subject=user.id, username=name, was=old)


async def disable_user(
    session: AsyncSession, user_id: uuid.UUID, *, by: Actor, now: datetime
) -> None:
    """No login and no token of this user counts any more: all their sessions end.

    Whether they can be done without is not asked here: see `access.authority.disable_account`.
    """
    disabled = (
        update(User).where(User.id == user_id, User.disabled_at.is_(None)).values(disabled_at=now)
    )
    if await session.scalar(disabled.returning(User.id)):
        record(session, "user.disabled", by=by, subject=user_id)
    await end_sessions_of(session, user_id, reason="user disabled", by=by, now=now)


async def enable_user(session: AsyncSession, user_id: uuid.UUID, *, by: Actor) -> None:
    """The user may sign in again. No old token comes back: their sessions have ended."""
    announce(session, Change("user", user_id))
    enabled = (
        update(User)
        .where(User.id == user_id, User.disabled_at.is_not(None))
        .values(disabled_at=None)
    )
    if await session.scalar(enabled.returning(User.id)):
        record(session, "user.enabled", by=by, subject=user_id)


async def find_user(session: AsyncSession, username: str) -> User | None:
    """The user of that name, however it is spelled; None for names that nobody can have."""
    try:
        key = username_key(normalise_username(username))
    except Refused:
        return None
    return await session.scalar(select(User).where(User.username_key == key))


async def get_user(session: AsyncSession, username: str) -> User:
    """The user of that name. Raises UserNotFound."""
    user = await find_user(session, username)
    if user is None:
        raise UserNotFound
    return user


async def user_of_id(session: AsyncSession, user_id: uuid.UUID) -> User:
    """That user. Raises UserNotFound."""
    user = await session.get(User, user_id)
    if user is None:
        raise UserNotFound
    return user


async def usernames_of(
    session: AsyncSession, user_ids: Collection[uuid.UUID]
) -> dict[uuid.UUID, str]:
    """What those of them who exist are called."""
    named = select(User.id, User.username).where(User.id.in_(user_ids))
    return dict((await session.execute(named)).all())


async def list_users(
    session: AsyncSession,
    *,
    name: str | None = None,
    after: uuid.UUID | None = None,
    limit: int | None = None,
) -> list[User]:
    """Users, oldest first: up to `limit` of those that come after the given one.

    `name` narrows them to those whose name has this in it, in any spelling.
    """
    statement = select(User).order_by(User.id).limit(limit)
    if name is not None:
        statement = statement.where(User.username_key.contains(username_key(name), autoescape=True))
    if after is not None:
        statement = statement.where(User.id > after)
    return list(await session.scalars(statement))
