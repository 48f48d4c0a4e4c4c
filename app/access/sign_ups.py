"""Sign-up: strangers make accounts for themselves."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import literal, select
from sqlalchemy.dialects.postgresql import insert

from app.access.letters import Letters, charge
from app.access.models import Grant, Scope
from app.audit.log import record
from app.db.work import Actor, Work
from app.errors import Refused
from app.identity.account_writes import add_user
from app.identity.hash_queue import source_of
from app.identity.login import Guard
from app.identity.models import SignUp
from app.identity.names import normalise_username
from app.identity.passwords import check_password
from app.identity.users import NewUser, UsernameTaken, names_taken
from app.mail.addresses import parse_address

KEPT_UNCONFIRMED = timedelta(days=7)
"""Then an account whose address was never confirmed is erased."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The account that a stranger wants."""

    username: str
    email: str
    password: str


async def sign_up(
    guard: Guard, letters: Letters, wanted: Wanted, *, scopes: Collection[str], actor: Actor
) -> None:
    """Make an account that works once its address is confirmed. It holds these scopes.

    Does the same for an address that has an account: its owner is told of it by mail. Raises
    Refused for an unfit name, address or password, UsernameTaken, AskedTooOften, and TooManyLogins
    when the hashing queue is full.
    """
    name, address = normalise_username(wanted.username), parse_address(wanted.email)
    if set("@/:") & set(name):
        # It could be another person's address; or it is shown as a link in a mail to a stranger.
        raise Refused("A username has no @, no colon and no slash here.")
    checked = check_password(wanted.password, username=name)
    await charge(guard, "sign-up", address, actor=actor)
    async with guard.database.reading() as db:
        if await names_taken(db, [name]):
            raise UsernameTaken
    password_hash = await guard.hasher.hash(checked, source=source_of(actor))
    async with guard.database.work(actor) as work:
        # Without a password nothing lets them in, whatever asks: it waits in `sign_ups`.
        user = await add_user(work, NewUser(name, "person", None, address=address))
        expires_at = work.now + KEPT_UNCONFIRMED
        work.db.add(SignUp(user_id=user.id, password_hash=password_hash, expires_at=expires_at))
        await _grant(work, user.id, scopes)
        record(work, "account.signed_up", subject=user.id)
        letters.ask(work, "sign-up", address, user_id=str(user.id))


async def _grant(work: Work[Actor], user_id: uuid.UUID, scopes: Collection[str]) -> None:
    """Grant what sign-up gives, as far as it is registered. The operator has decided it."""
    registered = select(Scope.name).where(Scope.name.in_(scopes))
    granted = insert(Grant).from_select(
        ["user_id", "scope"], select(literal(user_id), registered.subquery().c.name)
    )
    for scope in sorted(await work.db.scalars(granted.returning(Grant.scope))):
        record(work, "grant.made", subject=user_id, scope=scope, expires_at=None)
