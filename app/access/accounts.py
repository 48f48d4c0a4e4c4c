"""Accounts, as administrators change them. Every function here checks the caller's authority."""

import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from app.access.authority import Caller, confirm_caller, keep_an_admin, managed_user
from app.access.grants import grant_to_newcomers
from app.db.work import Database, Work
from app.errors import Refused
from app.identity import account_writes, session_writes, sessions
from app.identity.clients import NewSecret, secrets_of
from app.identity.hash_queue import source_of
from app.identity.models import User
from app.identity.names import normalise_username
from app.identity.passwords import PasswordHasher, check_password
from app.identity.registrations import require_no_client
from app.identity.sessions import SessionNotFound
from app.identity.users import NewUser


async def prepare_person(
    hasher: PasswordHasher, *, username: str, password: str, caller: Caller
) -> NewUser:
    """Check a new person's name and password, and hash the password: before any unit of work.

    Raises Refused for an unfit name or password, or TooManyLogins when the hashing queue is full.
    """
    name = normalise_username(username)
    checked = check_password(password, username=name)
    return NewUser(name, "person", await hasher.hash(checked, source=source_of(caller)))


async def create_person(work: Work[Caller], person: NewUser) -> User:
    """Add a person whom `prepare_person` has checked.

    Raises UsernameTaken, or what `confirm_caller` raises.
    """
    await confirm_caller(work)
    return await account_writes.add_user(work, person)


async def create_people(
    work: Work[Caller],
    people: Sequence[NewUser],
    scopes: Mapping[uuid.UUID, AbstractSet[str]],
) -> set[uuid.UUID]:
    """Add people whose names and passwords have been checked, and grant them these scopes.

    Return the ids of those who were added: those whose names are taken are left out. Raises
    BeyondAuthority for a scope that the caller lacks, or what `confirm_caller` raises.
    """
    await confirm_caller(work)
    made = await account_writes.add_users(work, people)
    await grant_to_newcomers(work, {each: scopes[each] for each in scopes if each in made})
    return made


async def create_service(work: Work[Caller], *, username: str) -> tuple[User, NewSecret]:
    """Add a service account with its first secret. Its name is its `client_id` for ever.

    Raises UsernameTaken, ClientIdTaken, Refused for an unfit name, or what `confirm_caller` raises.
    """
    await confirm_caller(work)
    await require_no_client(work.db, username)
    return await account_writes.create_service(work, username=username)


async def change(
    work: Work[Caller], user_id: uuid.UUID, *, username: str | None, disabled: bool | None
) -> User:
    """Rename an account, disable it or enable it; what is None stays as it is.

    Raises UserNotFound, BeyondAuthority, UsernameTaken, Refused for an unfit name, or LastAdmin.
    """
    outlasts_caller = username is not None or disabled is False
    user = await managed_user(work, user_id, outlasts_caller=outlasts_caller)
    if username is not None:
        await account_writes.rename_user(work, user, username=username)
    if disabled is True:
        await keep_an_admin(work, user_id)
        await account_writes.disable_user(work, user_id)
    if disabled is False:
        await account_writes.enable_user(work, user_id)
    await work.db.refresh(user)
    return user


async def disable(work: Work[Caller], user_id: uuid.UUID, *, force: bool = False) -> None:
    """Disable an account: no login and no token of it counts any more.

    Raises UserNotFound, BeyondAuthority, and LastAdmin for the last admin, unless forced.
    """
    await managed_user(work, user_id)
    if not force:
        await keep_an_admin(work, user_id)
    await account_writes.disable_user(work, user_id)


async def make_secret(work: Work[Caller], user_id: uuid.UUID) -> tuple[User, NewSecret]:
    """Make one more secret for a service account.

    Raises UserNotFound, BeyondAuthority, TooManySecrets, or Refused for a person.
    """
    user = await managed_user(work, user_id, outlasts_caller=True)
    return user, await account_writes.make_secret(work, user_id)


async def revoke_secret(
    work: Work[Caller], user_id: uuid.UUID, secret_id: uuid.UUID, *, force: bool = False
) -> None:
    """Revoke a secret of a service account.

    Raises UserNotFound, SecretNotFound, BeyondAuthority, and LastAdmin for the only secret of the
    last admin, unless forced.
    """
    await managed_user(work, user_id)
    only = [each.id for each in await secrets_of(work.db, user_id)] == [secret_id]
    if only and not force:
        await keep_an_admin(work, user_id)
    await account_writes.revoke_secret(work, user_id, secret_id)


async def end_session_of(
    work: Work[Caller], user_id: uuid.UUID, session_id: uuid.UUID, *, reason: str
) -> None:
    """End one session of this account; repeating it changes nothing.

    Raises UserNotFound, BeyondAuthority, or SessionNotFound for a session of another account.
    """
    await managed_user(work, user_id)
    if await sessions.owner_of(work.db, session_id) != user_id:
        raise SessionNotFound
    await session_writes.end_session(work, session_id, reason=reason)


async def end_session(work: Work[Caller], session_id: uuid.UUID, *, reason: str) -> None:
    """End one session of any account. Raises SessionNotFound, UserNotFound or BeyondAuthority."""
    user_id = await sessions.owner_of(work.db, session_id)
    await managed_user(work, user_id)
    if not await session_writes.end_session(work, session_id, reason=reason):
        raise SessionNotFound


async def end_sessions(work: Work[Caller], user_id: uuid.UUID, *, reason: str) -> None:
    """End all sessions of an account. Raises UserNotFound or BeyondAuthority."""
    await managed_user(work, user_id)
    await session_writes.end_sessions_of(work, user_id, reason=reason)


async def replace_password(
    database: Database,
    hasher: PasswordHasher,
    user_id: uuid.UUID,
    *,
    password: str,
    caller: Caller,
) -> None:
    """Give a person another password, whatever it was, and end all their sessions.

    Takes the database, because no connection may be held while the password is hashed. Raises
    UserNotFound, BeyondAuthority, Refused for a service account, WeakPassword, or TooManyLogins
    when the hashing queue is full.
    """
    async with database.work(caller) as work:
        user = await managed_user(work, user_id, outlasts_caller=True)
    if user.kind != "person":
        raise Refused("Only people have passwords: a service account has secrets.")
    checked = check_password(password, username=user.username)
    password_hash = await hasher.hash(checked, source=source_of(caller))
    async with database.work(caller) as work:
        # Asked again: while it was hashed, the caller may have lost a scope, or the user got one.
        await managed_user(work, user_id, outlasts_caller=True)
        await account_writes.set_password(work, user_id, password_hash=password_hash)
