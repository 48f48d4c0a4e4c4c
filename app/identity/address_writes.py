"""Write people's e-mail addresses, and what rests on them. Nothing here checks authority.

Only `access` and this package may import it: the import contracts in pyproject.toml.
"""

import uuid
from datetime import datetime

from sqlalchemy import and_, delete, exists, or_, select, update
from sqlalchemy.exc import IntegrityError

from app.db.changes import Change
from app.db.locks import Lock, take_lock
from app.db.work import Actor, Work
from app.identity.models import SignUp, User
from app.identity.users import AddressTaken, names_of
from app.mail.addresses import Address


async def set_unverified_address(
    work: Work[Actor], user_id: uuid.UUID, address: Address | None
) -> None:
    """Give a person an address that they have yet to confirm, or none. The actor has chosen it.

    Until they confirm it, it stands for no account.
    """
    work.publish(Change("user", user_id))
    await work.db.execute(
        update(User)
        .where(User.id == user_id)
        .values(
            email=address.shown if address else None,
            email_key=address.key if address else None,
            email_verified_at=None,
            email_chosen_by=work.actor.user_id if address else None,
        )
    )


async def set_verified_address(
    work: Work[Actor], user_id: uuid.UUID, address: Address, *, chosen_by: uuid.UUID | None
) -> None:
    """Give a person an address that its reader has confirmed. Raises AddressTaken.

    `chosen_by`: as in the user's row.
    """
    await _require_free(work, user_id, address)
    work.publish(Change("user", user_id))
    verified = (
        update(User)
        .where(User.id == user_id)
        .values(
            email=address.shown,
            email_key=address.key,
            email_verified_at=work.now,
            email_chosen_by=chosen_by,
        )
    )
    try:
        async with work.savepoint():
            await work.db.execute(verified)
    except IntegrityError:
        raise AddressTaken from None


async def _require_free(work: Work[Actor], user_id: uuid.UUID, address: Address) -> None:
    """Raise AddressTaken if another account has confirmed this address, or has it as its name."""
    # Names and confirmed addresses are added under the same lock, names share it. Without this
    # look, a constraint would refuse the address, and Postgres log it.
    await take_lock(work.db, Lock.LOOKALIKE_NAMES)
    verified = and_(User.email_key == address.key, User.email_verified_at.is_not(None))
    named = User.username_key.in_(names_of(address))
    taken = exists().where(or_(verified, named), User.id != user_id)
    if await work.db.scalar(select(taken)):
        raise AddressTaken


async def extend_sign_up(work: Work[Actor], user_id: uuid.UUID, *, until: datetime) -> None:
    """Keep the account of a person who signed up until then, at least: they were invited."""
    await work.db.execute(
        update(SignUp)
        .where(SignUp.user_id == user_id, SignUp.expires_at < until)
        .values(expires_at=until)
        .execution_options(synchronize_session=False)
    )


async def finish_sign_up(work: Work[Actor], user_id: uuid.UUID) -> None:
    """Let a person who has signed up use their password, now that they confirmed their address.

    Nothing happens for others, and for people who got another password meanwhile.
    """
    password_hash = await work.db.scalar(
        delete(SignUp).where(SignUp.user_id == user_id).returning(SignUp.password_hash)
    )
    if password_hash is not None:
        await work.db.execute(
            update(User)
            .where(User.id == user_id, User.password_hash.is_(None))
            .values(password_hash=password_hash)
        )
