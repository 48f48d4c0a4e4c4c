"""Accounts, as administrators change them. Every function here checks the caller's authority."""

import uuid
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from app.access.authority import (
    Caller,
    confirm_caller,
    keep_an_admin,
    managed_user,
    others_user,
)
from app.access.grants import grant_to_newcomers
from app.access.letters import Letters, replaced
from app.access.password_links import Invitation, invite
from app.audit.log import record
from app.db.work import Database, Work
from app.errors import Refused
from app.identity import account_writes, session_writes, sessions
from app.identity.address_writes import set_unverified_address
from app.identity.clients import NewSecret, secrets_of
from app.identity.hash_queue import source_of
from app.identity.models import User
from app.identity.names import normalise_username
from app.identity.passwords import PasswordHasher, check_password
from app.identity.registrations import require_no_client
from app.identity.sessions import SessionNotFound
from app.identity.users import NewUser
from app.mail.addresses import parse_address


async def prepare_person(
    hasher: PasswordHasher,
    *,
    username: str,
    password: str | None,
    email: str | None = None,
    caller: Caller,
) -> NewUser:
    """Check what a new person has, and hash the password, if any: before any unit of work.

    Raises Refused for an unfit name, address or password, or TooManyLogins when the hashing queue
    is full.
    """
    name = normalise_username(username)
    address = None if email is None else parse_address(email)
    if password is None:
        return NewUser(name, "person", None, address)
    checked = check_password(password, username=name)
    return NewUser(name, "person", await hasher.hash(checked, source=source_of(caller)), address)


async def create_person(work: Work[Caller], person: NewUser) -> User:
    """Add a person whom `prepare_person` has checked.

    Raises UsernameTaken, or what `confirm_caller` raises.
    """
    await confirm_caller(work)
    return await account_writes.add_user(work, person)


async def welcome_person(
    work: Work[Caller], letters: Letters, person: NewUser
) -> tuple[User, Invitation | None]:
    """Add a person whom `prepare_person` has checked, and let them take it from there.

    Without a password they are invited to set one. With one, they are mailed a link that confirms
    their address, if they have one. Raises UsernameTaken, or what `invite` and `confirm_caller`
    raise.
    """
    user = await create_person(work, person)
    if person.password_hash is None:
        return user, await invite(work, letters, user.id)
    if person.address is not None:
        letters.ask_for(work, user, "verify", person.address)
    return user, None


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


async def change_address(
    work: Work[Caller], letters: Letters, user_id: uuid.UUID, email: str | None
) -> User:
    """Give a person another e-mail address, or none.

    A link that confirms it is mailed to the new address. Until then it stands for no account, and
    an address that was confirmed before stays. Raises UserNotFound, BeyondAuthority, OwnAccount, or
    Refused for a service account and for a text that is no address.
    """
    user = await others_user(work, user_id)
    if user.kind != "person":
        raise Refused("Only people have e-mail addresses.")
    address = None if email is None else parse_address(email)
    if address is not None and user.email_verified_at is not None:
        if address.shown != user.email:
            letters.ask_for(work, user, "change", address)
        return user
    if (address.shown if address else None) == user.email:
        return user
    if user.email_verified_at is not None:
        letters.send(work, replaced(user))
    await set_unverified_address(work, user_id, address)
    record(work, "email.changed", subject=user_id)
    await work.db.refresh(user)
    if address is not None:
        letters.ask_for(work, user, "verify", address)
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
        user = await others_user(work, user_id)
    if user.kind != "person":
        raise Refused("Only people have passwords: a service account has secrets.")
    checked = check_password(password, username=user.username)
    password_hash = await hasher.hash(checked, source=source_of(caller))
    async with database.work(caller) as work:
        # Asked again: while it was hashed, the caller may have lost a scope, or the user got one.
        await others_user(work, user_id)
        await account_writes.set_password(work, user_id, password_hash=password_hash)
