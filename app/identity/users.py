"""Users: making, changing, finding and listing them."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal

from sqlalchemy import LargeBinary, any_, bindparam, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from uuid_utils.compat import uuid7

from app.audit.log import Actor, record
from app.db.changes import Change, announce
from app.errors import Conflict, NotFound, Refused
from app.identity.locks import hold_users
from app.identity.models import User
from app.identity.names import (
    existing_username,
    normalise_username,
    username_key,
    username_skeleton,
)
from app.identity.sessions import end_sessions_of

NOBODY = uuid.UUID(int=0)
"""Of this id there is no user: for looks that cost the same whether there is one or not."""
# Any number will do, as long as nothing else in this database locks it.
LOOKALIKE_LOCK = 0x5C09E6A9
FILLED_AT_ONCE = 1000
"""Users whose skeletons are made in one statement."""

Kind = Literal["person", "service"]


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to be, under the id that they will have."""

    username: str
    kind: Kind
    password_hash: str | None
    id: uuid.UUID = field(default_factory=uuid7)


class UsernameTaken(Conflict):
    """A user has that name, perhaps in other letter case, or one that looks like it."""

    def __init__(self) -> None:
        super().__init__("That username is taken: choose another.")


class UserNotFound(NotFound):
    """No user has that name or id."""

    def __init__(self) -> None:
        super().__init__("There is no such user.")


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
    """Add the rows of new users, whose names and passwords have been checked.

    Return the ids of those that were added. A user whose name is taken, or looks like another, is
    left out.
    """
    fit = await not_lookalikes(session, [each.username for each in users])
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "username": each.username,
            "username_key": username_key(each.username),
            "username_skeleton": username_skeleton(each.username),
            "kind": each.kind,
            "password_hash": each.password_hash,
        }
        for each in users
        if each.username in fit
    ]
    if not rows:
        return set()
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
    if not await not_lookalikes(session, [name], of=user.id):
        raise UsernameTaken
    announce(session, Change("user", user.id))
    try:
        async with session.begin_nested():
            user.username, user.username_key = name, username_key(name)
            user.username_skeleton = username_skeleton(name)
    except IntegrityError:
        raise UsernameTaken from None
    record(session, "user.changed", by=by, subject=user.id, username=name, was=old)


async def not_lookalikes(
    session: AsyncSession, names: Sequence[str], *, of: uuid.UUID | None = None
) -> set[str]:
    """Return those of these names that look like no other user's, and like none before it here.

    Names in ASCII never look alike by that. `of` is the user who gets the name, if there is one.
    Until the commit, no other transaction adds a name that looks like one of these.
    """
    # Names in ASCII don't exclude each other, so they share the lock.
    plain = all(map(str.isascii, names))
    lock = func.pg_advisory_xact_lock_shared if plain else func.pg_advisory_xact_lock
    await session.execute(select(lock(LOOKALIKE_LOCK)))
    while await fill_in_skeletons(session):
        pass
    skeletons = {name: username_skeleton(name) for name in names}
    looks = select(User.username, User.username_skeleton).where(
        User.username_skeleton == any_(literal(list(skeletons.values()), ARRAY(LargeBinary))),
        User.id != (of or NOBODY),
    )
    seen: dict[bytes | None, list[str]] = defaultdict(list)
    for name, skeleton in await session.execute(looks):
        seen[skeleton].append(name)
    fit = set()
    for name, skeleton in skeletons.items():
        if not seen[skeleton] or all(map(str.isascii, [name, *seen[skeleton]])):
            fit.add(name)
            seen[skeleton].append(name)
    return fit


async def fill_in_skeletons(session: AsyncSession) -> bool:
    """Make a batch of missing skeletons; False when none is missing.

    They are missing for names that an earlier release or an operator's SQL has given.
    """
    missing = (
        select(User.id, User.username)
        .where(User.username_skeleton.is_(None))
        .limit(FILLED_AT_ONCE)
        .with_for_update(key_share=True, skip_locked=True)
    )
    found = (await session.execute(missing)).all()
    rows = [{"id": id_, "username_skeleton": username_skeleton(name)} for id_, name in found]
    if rows:
        await session.execute(update(User), rows)
    return bool(rows)


async def fill_in_all_skeletons(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Make all missing skeletons, a transaction for each batch: users are locked only shortly."""
    missing = True
    while missing:
        async with sessions.begin() as session:
            missing = await fill_in_skeletons(session)


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
    """Return the user of that name in any spelling; None for a name that no user can have."""
    name = existing_username(username)
    if name is None:
        return None
    return await session.scalar(_OF_NAME, {"key": username_key(name)})


# Built once, because each login asks it.
_OF_NAME = select(User).where(User.username_key == bindparam("key"))


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
