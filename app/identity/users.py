"""Users: what is checked of a new one, and finding and listing them."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import ColumnElement, LargeBinary, any_, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from uuid_utils.compat import uuid7

from app.db.locks import Lock, share_lock, take_lock
from app.db.paging import paginate
from app.errors import Conflict, NotFound
from app.identity.models import User
from app.identity.names import (
    existing_username,
    username_key,
    username_skeleton,
)
from app.mail.addresses import Address, find_address

NO_USER_ID = uuid.UUID(int=0)
"""No user has this id: it makes queries cost the same whether there is a user or not."""
MOST_COUNTED = 10_000
"""The most users that are counted: counting millions would take seconds."""
FILLED_AT_ONCE = 1000
"""Users whose skeletons are made in one statement."""

Kind = Literal["person", "service"]


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to be, under the id that they will have."""

    username: str
    kind: Kind
    password_hash: str | None
    address: Address | None = None
    address_verified: bool = False
    id: uuid.UUID = field(default_factory=uuid7)


class UsernameTaken(Conflict):
    """A user has that name, perhaps in other letter case, or one that looks like it."""

    text = "That username is taken: choose another."


class AddressTaken(Conflict):
    """Another account has that address, and has confirmed it; or its name is that address."""

    text = "Another account has this e-mail address."


class UserNotFound(NotFound):
    """No user has that name or id."""

    text = "There is no such user."


async def not_lookalikes(
    db: AsyncSession, names: Sequence[str], *, of: uuid.UUID | None = None
) -> set[str]:
    """Return the names that look like no other user's name and like no earlier one in the list.

    Two ASCII names never count as alike. `of` is the existing user who gets the name, if there is
    one. Until the commit, no other transaction adds a name that looks like one of these.
    """
    # Names in ASCII don't exclude each other, so they share the lock.
    plain = all(map(str.isascii, names))
    await (share_lock if plain else take_lock)(db, Lock.LOOKALIKE_NAMES)
    while await fill_in_skeletons(db):
        pass
    skeletons = {name: username_skeleton(name) for name in names}
    looks = select(User.username, User.username_skeleton).where(
        User.username_skeleton == any_(literal(list(skeletons.values()), ARRAY(LargeBinary))),
        User.id != (of or NO_USER_ID),
    )
    seen: dict[bytes | None, list[str]] = defaultdict(list)
    for name, skeleton in await db.execute(looks):
        seen[skeleton].append(name)
    fit = set()
    for name, skeleton in skeletons.items():
        if not seen[skeleton] or all(map(str.isascii, [name, *seen[skeleton]])):
            fit.add(name)
            seen[skeleton].append(name)
    return fit


async def not_addresses(
    db: AsyncSession, names: Sequence[str], *, of: uuid.UUID | None = None
) -> set[str]:
    """Return the names that are no verified address of another user: it stands for their account.

    `not_lookalikes` comes first, whose lock keeps it so until the commit.
    """
    keys = {name: found.key for name in names if (found := find_address(name))}
    if not keys:
        return set(names)
    verified = select(User.email_key).where(
        User.email_key.in_(set(keys.values())),
        User.email_verified_at.is_not(None),
        User.id != (of or NO_USER_ID),
    )
    taken = set(await db.scalars(verified))
    return {name for name in names if keys.get(name) not in taken}


async def fill_in_skeletons(db: AsyncSession) -> bool:
    """Make a batch of missing skeletons; False when none is missing.

    They are missing for names that an earlier release or an operator's SQL has given.
    """
    missing = (
        select(User.id, User.username)
        .where(User.username_skeleton.is_(None))
        .limit(FILLED_AT_ONCE)
        .with_for_update(key_share=True, skip_locked=True)
    )
    found = (await db.execute(missing)).all()
    rows = [{"id": id_, "username_skeleton": username_skeleton(name)} for id_, name in found]
    if rows:
        await db.execute(update(User), rows)
    return bool(rows)


async def fill_in_all_skeletons(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Make all missing skeletons, a transaction for each batch: users are locked only shortly."""
    missing = True
    while missing:
        async with sessions.begin() as db:
            missing = await fill_in_skeletons(db)


async def find_user(db: AsyncSession, username: str) -> User | None:
    """Return the user of that name in any spelling; None for a name that no user can have."""
    name = existing_username(username)
    if name is None:
        return None
    return await db.scalar(select(User).where(User.username_key == username_key(name)))


async def get_user(db: AsyncSession, username: str) -> User:
    """The user of that name. Raises UserNotFound."""
    user = await find_user(db, username)
    if user is None:
        raise UserNotFound
    return user


async def user_of_id(db: AsyncSession, user_id: uuid.UUID) -> User:
    """That user. Raises UserNotFound, also for one who was erased."""
    user = await db.get(User, user_id)
    if user is None or user.erased_at is not None:
        raise UserNotFound
    return user


async def names_taken(db: AsyncSession, names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the taken names, by `username_key`: the stored name and the kind of account."""
    taken = select(User.username_key, User.username, User.kind).where(
        User.username_key.in_({username_key(name) for name in names})
    )
    return {key: (username, kind) for key, username, kind in await db.execute(taken)}


def names_of(address: Address) -> set[str]:
    """Return the keys of the names that are this address."""
    return {username_key(address.shown), username_key(address.key)}


async def addresses_taken(db: AsyncSession, addresses: Collection[Address]) -> set[str]:
    """Return the keys of those addresses that a user has verified, or has as their name."""
    names = {name: each.key for each in addresses for name in names_of(each)}
    verified = select(User.email_key).where(
        User.email_key.in_(set(names.values())), User.email_verified_at.is_not(None)
    )
    named = select(User.username_key).where(User.username_key.in_(names))
    found = {each for each in await db.scalars(verified) if each is not None}
    return found | {names[each] for each in await db.scalars(named)}


async def usernames_of(db: AsyncSession, user_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Return the names of these users, by id; users that do not exist are left out."""
    named = select(User.id, User.username).where(User.id.in_(user_ids), User.erased_at.is_(None))
    return dict((await db.execute(named)).all())


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users are listed and counted: those to whom all of this applies. None: any will do."""

    name: str | None = None
    """A part of the name, in any spelling."""
    kind: Kind | None = None
    disabled: bool | None = None
    among: ColumnElement[bool] | None = None
    """A condition of the caller's own, such as `access.holdings.holds`."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what a user's row must satisfy."""
        found: list[ColumnElement[bool]] = [User.erased_at.is_(None)]
        if self.among is not None:
            found.append(self.among)
        if self.name is not None:
            found.append(User.username_key.contains(username_key(self.name), autoescape=True))
        if self.kind is not None:
            found.append(User.kind == self.kind)
        if self.disabled is not None:
            is_disabled = User.disabled_at.is_not(None)
            found.append(is_disabled if self.disabled else ~is_disabled)
        return found


EVERYBODY = UserFilter()


async def list_users(
    db: AsyncSession,
    which: UserFilter = EVERYBODY,
    *,
    after: uuid.UUID | None = None,
    limit: int | None = None,
) -> list[User]:
    """Return these users, newest first: up to `limit` of those that come after the given one."""
    statement = select(User).where(*which.conditions())
    return await paginate(db, statement, User.id, after=after, limit=limit, descending=True)


async def count_users(db: AsyncSession, which: UserFilter = EVERYBODY) -> int:
    """Return how many of these users there are. Above MOST_COUNTED, only that there are more."""
    some = select(User.id).where(*which.conditions()).limit(MOST_COUNTED + 1)
    return await db.scalar(select(func.count()).select_from(some.subquery())) or 0
