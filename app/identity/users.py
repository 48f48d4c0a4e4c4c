"""Users: their names; making, changing, finding and listing them."""

import re
import unicodedata
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.audit.log import Actor, record
from app.db.changes import Change, announce
from app.errors import Conflict, NotFound, Refused
from app.identity.locks import hold_users
from app.identity.models import User
from app.identity.sessions import end_sessions_of
from app.identity.spelling import nfkc

MAX_USERNAME = 128
NOBODY = uuid.UUID(int=0)
"""Of this id there is no user: for looks that cost the same whether there is one or not."""
LONGEST_SPELLING = 4 * MAX_USERNAME
"""In characters, of any name, decomposed: four are the most that compose into one."""
# The characters that show nothing: Default_Ignorable_Code_Point, as DerivedCoreProperties.txt of
# the Unicode Character Database lists it. Python's unicodedata does not have this property.
_DEFAULT_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    # Not of these, and yet nothing is seen of them.
    "\u2800\ufffc\U0001107f\U00016fe4\U0001d159]"
)

Kind = Literal["person", "service"]


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to be, under the id that they will have."""

    username: str
    kind: Kind
    password_hash: str | None
    id: uuid.UUID = field(default_factory=uuid7)


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
    name = nfkc(username, at_most=LONGEST_SPELLING)
    if name is None or not 1 <= len(name) <= MAX_USERNAME:
        raise Refused(f"A username has 1 to {MAX_USERNAME} characters.")
    if not name.isprintable() or any(character.isspace() for character in name):
        raise Refused("A username has no spaces and no control characters.")
    if _DEFAULT_IGNORABLE.search(name):
        raise Refused("A username has no invisible characters.")
    return name


def username_key(username: str) -> str:
    """The name as it is compared: one key for all spellings that a person would call the same.

    Folded here, not by Postgres' lower(), whose answer depends on the server's locale.
    """
    name = nfkc(username, at_most=LONGEST_SPELLING)
    if name is None:
        return username  # No user has such a name.
    return unicodedata.normalize("NFKC", name.casefold())


async def add_user(
    session: AsyncSession, *, username: str, kind: Kind, password_hash: str | None, by: Actor
) -> User:
    """The row of a new user, whose name and password have been checked. Raises UsernameTaken."""
    new = NewUser(username, kind, password_hash)
    if not await add_users(session, [new], by=by):
        raise UsernameTaken
    return await session.get_one(User, new.id)


async def add_users(
    session: AsyncSession, users: Sequence[NewUser], *, by: Actor
) -> set[uuid.UUID]:
    """The rows of new users, whose names and passwords have been checked.

    The ids of those who were made: whoever's name is taken was left out.
    """
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "username": each.username,
            "username_key": username_key(each.username),
            "kind": each.kind,
            "password_hash": each.password_hash,
        }
        for each in users
    ]
    # In one order for all: of two who add the same names at once, one waits, and neither for ever.
    rows.sort(key=itemgetter("username_key"))
    statement = insert(User).on_conflict_do_nothing(index_elements=[User.username_key])
    made = set(await session.scalars(statement.returning(User.id), rows))
    for each in users:
        if each.id in made:
            detail = {"username": each.username, "kind": each.kind}
            record(session, "user.created", by=by, subject=each.id, **detail)
    return made


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

    Whether they can be done without is not asked here: see `access.accounts.disable_account`.
    """
    await hold_users(session, user_id)
    # Before the user is disabled: that begins another epoch, whose predecessor has no sessions.
    await end_sessions_of(session, user_id, reason="user disabled", by=by, now=now)
    disabled = (
        update(User).where(User.id == user_id, User.disabled_at.is_(None)).values(disabled_at=now)
    )
    if await session.scalar(disabled.returning(User.id)):
        record(session, "user.disabled", by=by, subject=user_id)


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


async def names_taken(session: AsyncSession, names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Which of these names, or others that count as the same, are taken: by key, as kept."""
    taken = select(User.username_key, User.username, User.kind).where(
        User.username_key.in_({username_key(name) for name in names})
    )
    return {key: (username, kind) for key, username, kind in await session.execute(taken)}


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
