"""People's e-mail addresses: confirming one, changing one's own, and undoing that."""

import uuid
from typing import Protocol

from sqlalchemy import select

from app.access.authority import still_manages
from app.access.letters import Letters, charge, replaced
from app.audit.log import record
from app.db.work import Actor, Database, Work
from app.errors import InvalidToken
from app.identity.address_writes import (
    finish_sign_up,
    set_verified_address,
)
from app.identity.links import BadLink, UsedLink, has_link, use_link
from app.identity.login import Guard, WrongPassword, confirm_password
from app.identity.models import Session, User
from app.identity.session_writes import end_sessions_of
from app.identity.sessions import is_live
from app.mail.addresses import parse_address


class SignedIn(Protocol):
    """A person in one of their sessions."""

    @property
    def user_id(self) -> uuid.UUID:
        """The person."""

    @property
    def session_id(self) -> uuid.UUID:
        """The session."""


async def ask_to_change_address(
    guard: Guard, letters: Letters, person: SignedIn, *, email: str, password: str, actor: Actor
) -> None:
    """Mail a link to a person's new address; until they use it, nothing has changed.

    Does the same for an address that another account has, which gets no mail. Raises Refused for a
    text that is no address, AskedTooOften, what `confirm_password` raises, and InvalidToken when
    the session has ended meanwhile.
    """
    user_id, session_id = person.user_id, person.session_id
    address = parse_address(email)
    await charge(guard, "change", address, actor=actor)
    async with (
        confirm_password(
            guard, user_id, session_id=session_id, password=password, actor=actor
        ) as confirmed,
        guard.database.work(actor) as work,
    ):
        if not await work.db.scalar(select(is_live(work.now)).where(Session.id == session_id)):
            raise InvalidToken
        user = await work.db.get_one(User, user_id)
        if user.password_hash != confirmed.password_hash:
            # It was changed meanwhile, so this one is not the current one any more.
            raise WrongPassword(reason="changed meanwhile")
        letters.ask_for(work, user, "change", address)


async def confirm_address(
    database: Database, letters: Letters, *, token: str, actor: Actor
) -> UsedLink:
    """Use a link that was mailed to an address: its reader has confirmed it.

    A person who has signed up can use their account now. Of a change of address, the old address is
    told. If the person has asked for it, the mail has a link that undoes it. Raises BadLink, also
    when a manager has asked for it who may not manage the account any more, or AddressTaken when
    another account has confirmed the address meanwhile.
    """
    async with database.work(actor) as work:
        used = await use_link(work, token, "verify", "change")
        if not await still_manages(work, used.made_by, used.user_id):
            raise BadLink
        user = await work.db.get_one(User, used.user_id)
        address = parse_address(used.email or "")
        changes = user.email_verified_at is not None and user.email_key != address.key
        if changes:
            by_other = used.made_by is not None
            await _tell_old_address(work, letters, user, by_other=by_other)
        await set_verified_address(work, user.id, address, chosen_by=used.made_by)
        await finish_sign_up(work, user.id)
        record(work, "email.changed" if changes else "email.verified", subject=user.id)
    return used


async def _tell_old_address(
    work: Work[Actor], letters: Letters, user: User, *, by_other: bool
) -> None:
    """Tell the address that is replaced, with a link that undoes it if that is the person's.

    A thief who changes the address twice must not get such a link: only the first one counts. Nor
    must a manager who chose the old address, once the account holds more than they do.
    """
    chooser = user.email_chosen_by
    undoable = (
        not by_other
        and not await has_link(work.db, user.id, "undo", now=work.now)
        and await still_manages(work, chooser, user.id)
    )
    if undoable:
        old = user.email or ""
        letters.send(work, await letters.with_link(work, user, "undo", old, made_by=chooser))
    else:
        letters.send(work, replaced(user))


async def undo_change_of_address(
    database: Database, letters: Letters, *, token: str, actor: Actor
) -> None:
    """Give an account its old address back, by the link that was mailed there.

    All its sessions end, because the thief who changed the address may be signed in. Links that the
    thief asked for are void. The address that is replaced is told. Raises BadLink, or AddressTaken
    when another account has the old address now.
    """
    async with database.work(actor) as work:
        used = await use_link(work, token, "undo")
        if not await still_manages(work, used.made_by, used.user_id):
            raise BadLink
        user = await work.db.get_one(User, used.user_id)
        address = parse_address(used.email or "")
        if user.email_verified_at is not None and user.email_key != address.key:
            letters.send(work, replaced(user))
        await set_verified_address(work, used.user_id, address, chosen_by=used.made_by)
        record(work, "email.changed", subject=used.user_id, undone=True)
        await end_sessions_of(work, used.user_id, reason="change of address undone")
