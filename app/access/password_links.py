"""New passwords by a link: after one was forgotten, and the first one of an invited person."""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from app.access.authority import Caller, others_user, still_manages
from app.access.letters import Letters, has_outgrown_chooser
from app.audit.log import record
from app.db.work import Actor, Work
from app.errors import Refused
from app.identity.account_writes import set_password
from app.identity.address_writes import extend_sign_up, set_verified_address
from app.identity.hash_queue import source_of
from app.identity.links import BadLink, Purpose, find_link, make_link, use_link
from app.identity.login import Guard
from app.identity.models import User
from app.identity.passwords import check_password
from app.identity.users import AddressTaken
from app.mail.addresses import parse_address

INVITATIONS: tuple[Purpose, ...] = ("invite", "mailed-invite")


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link by which a person sets their password."""

    url: str
    expires_at: datetime


async def invite(work: Work[Caller], letters: Letters, user_id: uuid.UUID) -> Invitation:
    """Invite a person: make a link to hand over, and mail another one if there is an address.

    Two links, so that handing one over never confirms the address. Both count only while the caller
    may manage the account. Raises UserNotFound, BeyondAuthority, OwnAccount, or Refused for a
    service account.
    """
    user = await others_user(work, user_id)
    if user.kind != "person":
        raise Refused("Only people are invited: a service account has secrets.")
    link = await make_link(work, user.id, "invite", made_by=work.actor.user_id)
    await extend_sign_up(work, user.id, until=link.expires_at)
    if user.email is not None:
        mail = await letters.with_link(
            work, user, "mailed-invite", user.email, made_by=work.actor.user_id
        )
        letters.send(work, mail)
    record(work, "invitation.made", subject=user.id)
    return Invitation(letters.url("accept-invitation", link), link.expires_at)


async def accept_invitation(guard: Guard, *, token: str, password: str, actor: Actor) -> None:
    """Set the password of a person who was invited. All their sessions end.

    Their address counts as confirmed if the link was mailed to it. Raises BadLink, WeakPassword, or
    TooManyLogins when the hashing queue is full.
    """
    password_hash = await _hashed(guard, token, INVITATIONS, password, actor)
    async with guard.database.work(actor) as work:
        used = await use_link(work, token, *INVITATIONS)
        if not await still_manages(work, used.made_by, used.user_id):
            raise BadLink
        if used.email is not None:
            # Taken by another account meanwhile? The person may still have this one.
            with suppress(AddressTaken):
                await set_verified_address(
                    work, used.user_id, parse_address(used.email), chosen_by=used.made_by
                )
        await set_password(
            work, used.user_id, password_hash=password_hash, action="invitation.accepted"
        )


async def reset_password(guard: Guard, *, token: str, password: str, actor: Actor) -> None:
    """Set another password by a link that was mailed. All sessions end, and no new one begins.

    Raises BadLink, WeakPassword, or TooManyLogins when the hashing queue is full.
    """
    password_hash = await _hashed(guard, token, ("reset",), password, actor)
    async with guard.database.work(actor) as work:
        used = await use_link(work, token, "reset")
        # Asked again: the account may have been granted more since the link was mailed.
        if await has_outgrown_chooser(work, await work.db.get_one(User, used.user_id)):
            raise BadLink
        await set_password(work, used.user_id, password_hash=password_hash, action="password.reset")


async def _hashed(
    guard: Guard, token: str, purposes: tuple[Purpose, ...], password: str, actor: Actor
) -> str:
    """Return the password's hash, if the link is good so far: before any unit of work."""
    async with guard.database.reading() as db:
        found = await find_link(db, token, *purposes, now=guard.database.now())
        user = await db.get(User, found.user_id)
    if user is None:
        raise BadLink
    checked = check_password(password, username=user.username)
    return await guard.hasher.hash(checked, source=source_of(actor))
