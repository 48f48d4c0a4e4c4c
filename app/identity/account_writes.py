"""Write accounts: people, services, and what they sign in with. Nothing here checks authority.

Only `access` and this package may import it: the import contracts in pyproject.toml.
"""

import secrets
import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from app.audit.actions import Action
from app.audit.log import record
from app.crypto import digest
from app.db.changes import Change
from app.db.locks import Lock, take_lock
from app.db.work import Actor, Work
from app.errors import Refused
from app.identity.clients import (
    FIRST_PARTY_CLIENT,
    MAX_SECRETS,
    SECRET_PREFIX,
    NewSecret,
    SecretNotFound,
    TooManySecrets,
)
from app.identity.erased_names import free_names, keep_name
from app.identity.erasure import clear_rows, emptied
from app.identity.locks import hold_users
from app.identity.models import ClientSecret, User
from app.identity.names import normalise_username, username_key, username_skeleton
from app.identity.session_writes import end_sessions_of
from app.identity.users import (
    NewUser,
    UsernameTaken,
    addresses_taken,
    names_of,
)

ERASED_AT_ONCE = 1000
"""Rows of a table that are deleted with their account: their number must not make it slow."""


async def add_user(work: Work[Actor], new: NewUser) -> User:
    """Add a user whose name and password have been checked. Raises UsernameTaken."""
    if not await add_users(work, [new]):
        raise UsernameTaken
    return await work.db.get_one(User, new.id)


async def add_users(work: Work[Actor], users: Sequence[NewUser]) -> set[uuid.UUID]:
    """Add the rows of new users, whose names and passwords have been checked.

    Return the ids of those that were added. Left out is a user whose name is taken, looks like
    another or is another's address, or whose verified address is taken or is another's name.
    """
    verified = [each for each in users if each.address and each.address_verified]
    if verified:
        # First, because `not_lookalikes` may only share it: no address becomes a name meanwhile.
        await take_lock(work.db, Lock.LOOKALIKE_NAMES)
    fit = await free_names(work, [each.username for each in users])
    named = {username_key(each.username) for each in users}
    addresses = [each.address for each in verified if each.address]
    taken = await addresses_taken(work.db, addresses)
    fit -= {each.username for each in verified if _is_taken(each, taken, named)}
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "username": each.username,
            "username_key": username_key(each.username),
            "username_skeleton": username_skeleton(each.username),
            "kind": each.kind,
            "password_hash": each.password_hash,
            "email": each.address.shown if each.address else None,
            "email_key": each.address.key if each.address else None,
            "email_verified_at": work.now if each.address_verified else None,
            "email_chosen_by": work.actor.user_id if each.address else None,
        }
        for each in users
        if each.username in fit
    ]
    if not rows:
        return set()
    # Always in the same order, so that two transactions that add the same names never deadlock.
    rows.sort(key=itemgetter("username_key"))
    statement = insert(User).on_conflict_do_nothing()
    made = set(await work.db.scalars(statement.returning(User.id), rows))
    for each in users:
        if each.id in made:
            record(work, "user.created", subject=each.id, kind=each.kind)
    return made


def _is_taken(new: NewUser, taken: AbstractSet[str], names: AbstractSet[str]) -> bool:
    """Whether a new user's address is taken, or is one of these names but for the user's own."""
    if new.address is None:
        return False
    others = names - {username_key(new.username)}
    return new.address.key in taken or not others.isdisjoint(names_of(new.address))


async def rename_user(work: Work[Actor], user: User, *, username: str) -> None:
    """Give a person another name. Raises UsernameTaken, or Refused for an unfit name."""
    name = normalise_username(username)
    if name == user.username:
        return
    if user.kind == "service":
        raise Refused("A service's name is its client_id, which never changes.")
    if not await free_names(work, [name], of=user.id):
        raise UsernameTaken
    work.publish(Change("user", user.id))
    try:
        async with work.savepoint():
            user.username, user.username_key = name, username_key(name)
            user.username_skeleton = username_skeleton(name)
    except IntegrityError:
        raise UsernameTaken from None
    record(work, "user.changed", subject=user.id, changed="username")


async def disable_user(work: Work[Actor], user_id: uuid.UUID) -> None:
    """Disable the user and end all their sessions: no login and no token of theirs counts."""
    await hold_users(work.db, user_id)
    # End the sessions before disabling. Disabling alone starts a new epoch (by a trigger), and
    # `end_sessions_of` would then find no sessions in the epoch before its own.
    await end_sessions_of(work, user_id, reason="user disabled")
    disabled = (
        update(User)
        .where(User.id == user_id, User.disabled_at.is_(None))
        .values(disabled_at=work.now)
    )
    if await work.db.scalar(disabled.returning(User.id)):
        record(work, "user.disabled", subject=user_id)


async def enable_user(work: Work[Actor], user_id: uuid.UUID) -> None:
    """Let the user sign in again. No old token comes back: their sessions have ended."""
    work.publish(Change("user", user_id))
    enabled = (
        update(User)
        .where(User.id == user_id, User.disabled_at.is_not(None))
        .values(disabled_at=None)
    )
    if await work.db.scalar(enabled.returning(User.id)):
        record(work, "user.enabled", subject=user_id)


async def erase_user(work: Work[Actor], user: User) -> None:
    """Erase an account whose user is held, and its names too: all that is theirs stops at once.

    Their rows go now, up to ERASED_AT_ONCE of each table. Housekeeping removes the rest, and then
    the account's own row, which has no name any more. The name stays taken for NAMES_KEPT.
    """
    await keep_name(work, user.username)
    work.publish(Change("user", user.id))
    # First: the triggers of the sessions' rows then see that the user's has told their end.
    emptying = update(User).where(User.id == user.id).values(emptied(user.id, now=work.now))
    await work.db.execute(emptying.execution_options(synchronize_session=False))
    work.db.expunge(user)
    record(work, "account.erased", subject=user.id, kind=user.kind)
    await clear_rows(work.db, user.id, limit=ERASED_AT_ONCE)


async def create_service(work: Work[Actor], *, username: str) -> tuple[User, NewSecret]:
    """A new service account with its first secret. Its name is its `client_id` for ever.

    Raises UsernameTaken, or Refused for an unfit name.
    """
    name = normalise_username(username)
    if not name.isascii() or ":" in name or name.lower() == FIRST_PARTY_CLIENT:
        # RFC 6749 §2.3.1 and appendix A.1: it has to fit in HTTP Basic.
        raise Refused("A service's name is ASCII without a colon, and not the product's own.")
    user = await add_user(work, NewUser(name, "service", None))
    return user, await make_secret(work, user.id)


async def make_secret(work: Work[Actor], user_id: uuid.UUID) -> NewSecret:
    """Add a secret; the old one still works. Raises TooManySecrets or Refused."""
    db = work.db
    # Of two who ask at once, one counts after the other.
    await hold_users(db, user_id)
    kind = await db.scalar(select(User.kind).where(User.id == user_id))
    if kind != "service":
        raise Refused("Only service accounts have secrets.")
    live = await db.scalars(select(ClientSecret.id).where(ClientSecret.user_id == user_id))
    if len(live.all()) >= MAX_SECRETS:
        raise TooManySecrets
    value = SECRET_PREFIX + secrets.token_urlsafe(32)
    row = ClientSecret(user_id=user_id, digest=digest(value))
    db.add(row)
    await db.flush()
    record(work, "secret.made", subject=user_id, secret=row.id)
    return NewSecret(row.id, value)


async def revoke_secret(work: Work[Actor], user_id: uuid.UUID, secret_id: uuid.UUID) -> None:
    """Remove a secret: it authenticates no request from now on. Raises SecretNotFound."""
    await hold_users(work.db, user_id)
    removed = await work.db.scalar(
        delete(ClientSecret)
        .where(ClientSecret.id == secret_id, ClientSecret.user_id == user_id)
        .returning(ClientSecret.id)
    )
    if removed is None:
        raise SecretNotFound
    record(work, "secret.revoked", subject=user_id, secret=secret_id)


async def set_password(
    work: Work[Actor],
    user_id: uuid.UUID,
    *,
    password_hash: str,
    action: Action = "password.changed",
) -> None:
    """Give a person another password, whatever it was, and end all their sessions."""
    await hold_users(work.db, user_id)
    await work.db.execute(
        update(User).where(User.id == user_id).values(password_hash=password_hash)
    )
    record(work, action, subject=user_id)
    await end_sessions_of(work, user_id, reason="password set")
