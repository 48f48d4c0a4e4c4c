"""Mails about accounts: what strangers ask for, and what the mails that come of it say.

A public route only writes down what was asked, for known and unknown addresses alike. The sender of
mails composes the mail later, by the functions here. So no answer, and no answer's time, tells
whether an address has an account.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal
from urllib.parse import urlencode

from sqlalchemy import exists, or_, select

from app.access.authority import still_manages
from app.access.models import Grant
from app.audit.log import record
from app.db.work import Actor, Work
from app.identity.links import Link, make_link
from app.identity.login import Guard
from app.identity.models import User
from app.identity.names import MAX_USERNAME, existing_username, username_key
from app.identity.requests import charge_request
from app.identity.users import names_of
from app.mail.addresses import Address, find_address, parse_address
from app.mail.outbox import Asked, Composer, Mail, Mailer, Template

CLOCKS_DIFFER_BY = timedelta(seconds=1)
"""At most, the database's clock and a process's idea of it."""

Page = Literal["verify-email", "reset-password", "accept-invitation", "undo-email-change"]
Wish = Literal["verify", "reset", "sign-up", "change"]
MailedPurpose = Literal["verify", "change", "reset", "undo", "mailed-invite"]


@dataclass(frozen=True, slots=True)
class Letters:
    """Sends the mails about accounts. Their links lead to our pages."""

    mailer: Mailer
    issuer: str

    def url(self, page: Page, link: Link) -> str:
        """Return where a link leads: below the issuer, never by a request's `Host`."""
        return f"{self.issuer}/{page}?{urlencode({'token': link.token})}"

    def ask(self, work: Work[Actor], wish: Wish, address: Address, **values: str) -> None:
        """Write down what was asked for this address: the sender does the rest."""
        self.mailer.ask(work, Asked(wish, address.shown, values, work.actor.origin))

    def send(self, work: Work[Actor], mail: Mail) -> None:
        """Send a mail, if the unit of work is committed."""
        self.mailer.send(work, mail)

    def ask_for(
        self,
        work: Work[Actor],
        user: User,
        wish: Literal["verify", "change"],
        address: Address,
    ) -> None:
        """Write down that this user wants an address, or that a manager wants it for them.

        It counts only until the user's password or address changes, as the link does that comes of
        it.
        """
        values = {"user_id": str(user.id), "epoch": str(user.link_epoch)}
        if work.actor.user_id not in {None, user.id}:
            values["made_by"] = str(work.actor.user_id)
        self.ask(work, wish, address, **values)

    async def with_link(
        self,
        work: Work[Actor],
        user: User,
        purpose: MailedPurpose,
        to: str,
        *,
        made_by: uuid.UUID | None = None,
    ) -> Mail:
        """Return a mail to this address, with a new link for this user.

        `made_by`: as in `identity.links.UsedLink`.
        """
        link = await make_link(work, user.id, purpose, email=to, made_by=made_by)
        template, page = _MAILED[purpose]
        values = {"username": user.username, "link": self.url(page, link)}
        return Mail(template, to, values, user.id, notice=purpose == "undo")

    def composers(self) -> Mapping[str, Composer]:
        """Return what composes the mail for each wish."""
        return {
            "verify": partial(_verification, self),
            "reset": partial(_reset, self),
            "sign-up": partial(_sign_up, self),
            "change": partial(_change, self),
        }


_MAILED: dict[MailedPurpose, tuple[Template, Page]] = {
    "verify": ("verify-email", "verify-email"),
    "change": ("confirm-address", "verify-email"),
    "reset": ("reset-password", "reset-password"),
    "undo": ("address-changed", "undo-email-change"),
    "mailed-invite": ("invitation", "accept-invitation"),
}
"""By what a link is for: the mail that has it, and the page that it leads to."""


def _maker(asked: Asked) -> uuid.UUID | None:
    """Return which manager asked for it, if one did."""
    made_by = asked.values.get("made_by")
    return uuid.UUID(made_by) if made_by else None


def replaced(user: User) -> Mail:
    """Return the mail that tells a user's present address that another one replaces it."""
    values = {"username": user.username}
    return Mail("address-replaced", user.email or "", values, user.id, notice=True)


async def ask_by_address(
    guard: Guard,
    letters: Letters,
    wish: Literal["verify", "reset"],
    email: str,
    *,
    username: str,
    actor: Actor,
) -> None:
    """Write down that a stranger wants a mail at this address; for this account, if it is named.

    Does the same whether it has an account or not. Raises Refused for a text that is no address, or
    AskedTooOften.
    """
    address = parse_address(email)
    await charge(guard, wish, address, actor=actor)
    async with guard.database.work(actor) as work:
        letters.ask(work, wish, address, username=username[:MAX_USERNAME])


async def charge(guard: Guard, wish: Wish, address: Address, *, actor: Actor) -> None:
    """Charge a wish to its network and to this address. Raises AskedTooOften."""
    async with guard.database.connect() as db:
        await charge_request(
            db,
            guard.throttle,
            network_address=actor.origin.address,
            about=(wish, address.key),
            now=guard.database.now(),
        )


async def _owner_of(work: Work[Actor], address: Address) -> User | None:
    """Return whose verified address it is."""
    return await work.db.scalar(
        select(User).where(User.email_key == address.key, User.email_verified_at.is_not(None))
    )


async def _is_taken(work: Work[Actor], address: Address, *, but: uuid.UUID) -> bool:
    """Whether another account has verified the address, or has it as its name."""
    verified = (User.email_key == address.key) & User.email_verified_at.is_not(None)
    named = User.username_key.in_(names_of(address))
    taken = select(User.id).where(or_(verified, named), User.id != but).limit(1)
    return await work.db.scalar(taken) is not None


async def _user(work: Work[Actor], asked: Asked) -> User | None:
    """Return the enabled account for which the request was made, if it counts still."""
    user = await work.db.get(User, uuid.UUID(asked.values["user_id"]))
    if user is None or user.disabled_at is not None:
        return None
    return user if asked.values.get("epoch") in {None, str(user.link_epoch)} else None


async def _reset(letters: Letters, work: Work[Actor], asked: Asked) -> Mail | None:
    address = find_address(asked.to)
    user = await _owner_of(work, address) if address else None
    if user is None or user.email is None or user.disabled_at is not None:
        return None
    if await has_outgrown_chooser(work, user):
        return None
    record(work, "password.reset_requested", subject=user.id)
    # To the address as it is kept, not as it was typed: two spellings may lead to two mailboxes.
    return await letters.with_link(work, user, "reset", user.email)


async def has_outgrown_chooser(work: Work[Actor], user: User) -> bool:
    """Return whether the account holds more now than the manager who chose its verified address.

    That manager may read the mail there. What they could manage as the address was verified is
    nothing new to them.
    """
    verified = user.email_verified_at
    if user.email_chosen_by is None or verified is None:
        return False
    since = exists().where(Grant.user_id == user.id, Grant.granted_at > verified - CLOCKS_DIFFER_BY)
    has_grown = await work.db.scalar(select(since))
    return bool(has_grown) and not await still_manages(work, user.email_chosen_by, user.id)


async def _verification(letters: Letters, work: Work[Actor], asked: Asked) -> Mail | None:
    address = find_address(asked.to)
    if address is None or await _owner_of(work, address):
        return None
    if "user_id" in asked.values:
        user = await _user(work, asked)
    else:
        user = await _waiting(work, address, asked.values.get("username", ""))
    if user is None or user.email is None or user.email_key != address.key:
        return None
    # By any request: the link counts only while the manager who chose the address may manage it.
    chooser = user.email_chosen_by
    if not await still_manages(work, chooser, user.id):
        return None
    return await letters.with_link(work, user, "verify", user.email, made_by=chooser)


async def _waiting(work: Work[Actor], address: Address, username: str) -> User | None:
    """Return the account of that name that waits for this address; without a name, the newest.

    Strangers can make accounts with one address. Who gives the name gets the link for theirs.
    """
    waiting = select(User).where(User.email_key == address.key, User.disabled_at.is_(None))
    name = existing_username(username)
    if name is not None:
        waiting = waiting.where(User.username_key == username_key(name))
    return await work.db.scalar(waiting.order_by(User.id.desc()).limit(1))


async def _sign_up(letters: Letters, work: Work[Actor], asked: Asked) -> Mail | None:
    address, user = find_address(asked.to), await _user(work, asked)
    if address is None or user is None or user.email_key != address.key or user.email is None:
        return None
    owner = await _owner_of(work, address)
    if owner is not None and owner.email is not None:
        # The new account can't be confirmed, and is erased after a while.
        return Mail("sign-up-taken", owner.email, {}, owner.id)
    if await _is_taken(work, address, but=user.id):
        return None
    return await letters.with_link(work, user, "verify", user.email)


async def _change(letters: Letters, work: Work[Actor], asked: Asked) -> Mail | None:
    address, user = find_address(asked.to), await _user(work, asked)
    if address is None or user is None:
        return None
    if await _is_taken(work, address, but=user.id):
        return None
    return await letters.with_link(work, user, "change", address.shown, made_by=_maker(asked))
