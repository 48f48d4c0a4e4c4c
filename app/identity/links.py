"""One-time links: they prove that a request comes from who got the link. One table, all purposes.

A link has a token of 256 random bits, of which a digest is kept. It is used once, by one
conditional DELETE. It is void when its user is disabled or gone, and, except for the link that
undoes a change of address, when the user's password or address changes: a trigger then begins a new
`link_epoch`, whatever writes the change. Of each purpose a user has one live link: the newest.
For a link that undoes, the oldest counts: a second change neither replaces nor adds one.
"""

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import ColumnElement, delete, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.crypto import digest
from app.db.work import Actor, Work
from app.errors import DomainError
from app.identity.locks import hold_users
from app.identity.models import AccountLink, User

Purpose = Literal["verify", "reset", "change", "undo", "invite", "mailed-invite"]

PREFIX = "sgl_"
LIFETIMES: dict[Purpose, timedelta] = {
    "verify": timedelta(hours=1),
    "reset": timedelta(hours=1),
    "change": timedelta(hours=1),
    "undo": timedelta(days=7),
    "invite": timedelta(days=7),
    "mailed-invite": timedelta(days=7),
}


class BadLink(DomainError):
    """The link was used or replaced, its time is over, or it is none of ours. Never which."""

    text = "This link is not valid: it was used, its time is over, or a newer one replaced it."


@dataclass(frozen=True, slots=True)
class Link:
    """A new link. Its token is shown to its user alone, and kept nowhere."""

    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UsedLink:
    """What a link that was good stood for."""

    id: uuid.UUID
    user_id: uuid.UUID
    purpose: Purpose
    email: str | None
    """The address that it is about, or that it was mailed to."""
    made_by: uuid.UUID | None
    """Who has made it, as a manager of the account. None: its user, or an operator."""


async def make_link(
    work: Work[Actor],
    user_id: uuid.UUID,
    purpose: Purpose,
    *,
    email: str | None = None,
    made_by: uuid.UUID | None = None,
) -> Link:
    """Make a link for this user. It replaces the one of the same purpose.

    `made_by`: as in `UsedLink`.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    expires_at = work.now + LIFETIMES[purpose]
    values: dict[str, Any] = {
        "id": uuid7(),
        "user_id": user_id,
        "purpose": purpose,
        "digest": digest(token),
        "email": email,
        "made_by": made_by,
        "created_at": work.now,
        "expires_at": expires_at,
    }
    columns = AccountLink.__table__.c
    given = [literal(value, columns[name].type) for name, value in values.items()]
    # The epoch as it is when the row is written: a change that commits later makes the link void.
    made = insert(AccountLink).from_select(
        [*values, "epoch"], select(*given, User.link_epoch).where(User.id == user_id)
    )
    replaced = {name: made.excluded[name] for name in [*values, "epoch"]}
    made = made.on_conflict_do_update(
        index_elements=[AccountLink.user_id, AccountLink.purpose],
        set_=replaced,
    )
    await work.db.execute(made)
    return Link(token, expires_at)


class FoundLink(NamedTuple):
    """What a link that is good stands for, before it is used."""

    user_id: uuid.UUID
    email: str | None


async def find_link(db: AsyncSession, token: str, *purposes: Purpose, now: datetime) -> FoundLink:
    """Return what a link stands for, if it is good now; nothing changes. Raises BadLink."""
    found = select(AccountLink.user_id, AccountLink.email).where(*_is_good(token, purposes, now))
    row = (await db.execute(found)).one_or_none()
    if row is None:
        raise BadLink
    return FoundLink(*row)


async def use_link(work: Work[Actor], token: str, *purposes: Purpose) -> UsedLink:
    """Use a link up, if it is good for one of these purposes; its user stays locked.

    Of several requests with the same link, one succeeds. Raises BadLink.
    """
    found = await find_link(work.db, token, *purposes, now=work.now)
    # Before the link is looked at again: what changes the user at this moment makes it void.
    await hold_users(work.db, found.user_id)
    used = delete(AccountLink).where(*_is_good(token, purposes, work.now))
    columns = (
        AccountLink.id,
        AccountLink.user_id,
        AccountLink.purpose,
        AccountLink.email,
        AccountLink.made_by,
    )
    row = (await work.db.execute(used.returning(*columns))).one_or_none()
    if row is None:
        raise BadLink
    id_, user_id, purpose, email, made_by = row
    return UsedLink(id_, user_id, cast(Purpose, purpose), email, made_by)


async def keep_links(work: Work[Actor], user_id: uuid.UUID) -> None:
    """Let links outlast a new hash of the same password, which has just begun an epoch."""
    epoch = select(User.link_epoch).where(User.id == user_id).scalar_subquery()
    of_last = AccountLink.user_id == user_id, AccountLink.epoch == epoch - 1
    await work.db.execute(
        update(AccountLink)
        .where(*of_last)
        .values(epoch=epoch)
        .execution_options(synchronize_session=False)
    )


async def has_link(
    db: AsyncSession, user_id: uuid.UUID, purpose: Purpose, *, now: datetime
) -> bool:
    """Return whether a user has such a link, whose time is not over."""
    live = select(AccountLink.id).where(
        AccountLink.user_id == user_id,
        AccountLink.purpose == purpose,
        AccountLink.expires_at > now,
    )
    return await db.scalar(live.limit(1)) is not None


def _is_good(
    token: str, purposes: tuple[Purpose, ...], now: datetime
) -> tuple[ColumnElement[bool], ...]:
    of_epoch = or_(AccountLink.epoch == User.link_epoch, AccountLink.purpose == "undo")
    enabled = select(User.id).where(
        User.id == AccountLink.user_id, User.disabled_at.is_(None), of_epoch
    )
    return (
        AccountLink.digest == digest(token),
        AccountLink.purpose.in_(purposes),
        AccountLink.expires_at > now,
        enabled.correlate(AccountLink).exists(),
    )
