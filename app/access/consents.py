"""Consents: what people let clients do in their name, and take back.

A session that a client got rests on its consent, and ends when that is withdrawn. A person who is
asked again decides about the scopes that are shown; the others stay as they are.
"""

import uuid
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Uuid, bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.scopes import ADMIN, IDENTITY
from app.audit.log import record
from app.db.changes import Change
from app.db.work import Actor, Work
from app.errors import NotFound
from app.identity.locks import hold_users
from app.identity.models import Consent, Registration
from app.identity.session_writes import end_sessions_of_consent

USE_NOTED_AFTER = timedelta(minutes=1)
"""Since the last use that was noted: not each sign-in writes the row."""

MOST_HOSTS = 20
"""That a consent remembers: those that were agreed to last."""


class ApplicationNotFound(NotFound):
    """The person has not let this client in."""

    text = "You have let no such application in."


@dataclass(frozen=True, slots=True)
class Application:
    """A client that a person has let in."""

    client_id: str
    name: str
    scopes: list[str]
    given_at: datetime
    last_used_at: datetime


async def find_consent(
    db: AsyncSession, user_id: uuid.UUID, registration_id: uuid.UUID
) -> Consent | None:
    """Return what the person has let this client do so far, if anything."""
    values = {"user_id": user_id, "registration_id": registration_id}
    return await db.scalar(_CONSENT, values, execution_options={"populate_existing": True})


# Built once, because every sign-in runs it.
_CONSENT = select(Consent).where(
    Consent.user_id == bindparam("user_id", type_=Uuid()),
    Consent.registration_id == bindparam("registration_id", type_=Uuid()),
)


def covers(consent: Consent | None, scopes: AbstractSet[str], *, host: str) -> bool:
    """Whether the person was asked for all of these scopes before, for this host, and said yes."""
    if consent is None or consent.implied or host not in consent.hosts:
        return False
    missing = scopes - set(consent.scopes)
    return not missing or (ADMIN in consent.scopes and missing.isdisjoint(IDENTITY))


async def give_consent(
    work: Work[Actor],
    registration: Registration,
    *,
    shown: AbstractSet[str],
    allowed: AbstractSet[str],
    host: str,
) -> Consent:
    """Let the client do what is allowed of what was shown to the actor; return the consent.

    `host`: where its answer goes, which was shown too.
    """
    assert work.actor.user_id is not None
    kept = await _held_consent(work, registration)
    agreed, implied = set(kept.scopes if kept else ()), False
    if kept is not None and kept.implied:
        # Implied only because the client was trusted, and not asked for: it ends with the trust.
        implied = registration.trusted and not agreed <= shown
        agreed = agreed if implied else set()
    scopes = (agreed - shown) | allowed
    consent = await _write(work, registration, kept, scopes, implied=implied)
    consent.hosts = [*(each for each in consent.hosts if each != host), host][-MOST_HOSTS:]
    record(
        work,
        "consent.given",
        subject=work.actor.user_id,
        client_id=registration.client_id,
        scopes=sorted(allowed),
    )
    return consent


async def imply_consent(
    work: Work[Actor], registration: Registration, scopes: AbstractSet[str]
) -> Consent:
    """Let a trusted client do this too, which asks no person; return the consent."""
    assert work.actor.user_id is not None
    found = await find_consent(work.db, work.actor.user_id, registration.id)
    if found is not None and scopes <= set(found.scopes):
        return found
    kept = await _held_consent(work, registration)
    both = {*scopes, *(kept.scopes if kept else ())}
    return await _write(work, registration, kept, both, implied=True)


async def _held_consent(work: Work[Actor], registration: Registration) -> Consent | None:
    """Return the actor's consent as it is, which no other transaction changes until the commit."""
    assert work.actor.user_id is not None
    await hold_users(work.db, work.actor.user_id)
    return await find_consent(work.db, work.actor.user_id, registration.id)


async def _write(
    work: Work[Actor],
    registration: Registration,
    kept: Consent | None,
    scopes: AbstractSet[str],
    *,
    implied: bool,
) -> Consent:
    assert work.actor.user_id is not None
    work.publish(Change("user", work.actor.user_id))
    if kept is None:
        kept = Consent(
            user_id=work.actor.user_id,
            registration_id=registration.id,
            given_at=work.now,
            last_used_at=work.now,
            hosts=[],
        )
        work.db.add(kept)
    kept.scopes, kept.implied = sorted(scopes), implied
    await work.db.flush()
    return kept


async def note_use(work: Work[Actor], consent_id: uuid.UUID) -> None:
    """Note that the consent was used just now, to the minute."""
    await work.db.execute(
        update(Consent)
        .where(Consent.id == consent_id, Consent.last_used_at < work.now - USE_NOTED_AFTER)
        .values(last_used_at=work.now)
        .execution_options(synchronize_session=False)
    )


async def list_applications(
    db: AsyncSession, user_id: uuid.UUID, *, after: str | None, limit: int
) -> list[Application]:
    """Return the clients that the person has let in, by their ids: up to `limit` after this one."""
    statement = (
        select(
            Registration.client_id,
            Registration.name,
            Consent.scopes,
            Consent.given_at,
            Consent.last_used_at,
        )
        .join(Consent)
        .where(
            Consent.user_id == user_id,
            Registration.deleted_at.is_(None),
            or_(Registration.trusted, Consent.implied.is_(False)),
        )
        .order_by(Registration.client_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(Registration.client_id > after)
    return [Application(*row) for row in await db.execute(statement)]


async def withdraw_consent(work: Work[Actor], client_id: str) -> None:
    """Let the client do nothing more in the actor's name: its sessions end at once.

    Raises ApplicationNotFound.
    """
    assert work.actor.user_id is not None
    await hold_users(work.db, work.actor.user_id)
    # The sessions first: without the consent they are found no more.
    consent_id = await work.db.scalar(
        select(Consent.id)
        .join(Registration)
        .where(
            Consent.user_id == work.actor.user_id,
            Registration.client_id == client_id,
            Registration.deleted_at.is_(None),
        )
    )
    if consent_id is None:
        raise ApplicationNotFound
    reason = "consent withdrawn"
    await end_sessions_of_consent(work, work.actor.user_id, consent_id, reason=reason)
    await work.db.execute(delete(Consent).where(Consent.id == consent_id))
    record(work, "consent.withdrawn", subject=work.actor.user_id, client_id=client_id)
