"""Client limits: what a registered client's tokens may have, whatever their user holds."""

import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.access.scopes import ADMIN, IDENTITY
from app.identity.models import Consent, Registration


@dataclass(frozen=True, slots=True)
class ClientLimit:
    """What bounds the tokens of a client: its ceiling, and the consent of the person."""

    registration_id: uuid.UUID
    trusted: bool
    ceiling: frozenset[str] | None
    """None: every registered scope but `admin`."""
    consented: frozenset[str]
    refresh_grace: int | None = None
    """Seconds, where the client has a setting of its own."""

    def of(self, scopes: AbstractSet[str]) -> frozenset[str]:
        """Return those of the scopes that are within the ceiling and the consent."""
        return within_ceiling(scopes, self.ceiling) & _reach(self.consented, scopes)


def within_ceiling(scopes: AbstractSet[str], ceiling: AbstractSet[str] | None) -> frozenset[str]:
    """Return those of the scopes that a client with this ceiling may get.

    Those of OpenID Connect are no grants, so no ceiling takes them away.
    """
    if ceiling is None:
        return frozenset(scopes - {ADMIN})
    return frozenset(scopes) & (_reach(ceiling, scopes) | IDENTITY.keys())


def _reach(named: AbstractSet[str], scopes: AbstractSet[str]) -> frozenset[str]:
    """Return the scopes that are named; if `admin` is, all that can be granted too."""
    return frozenset(named) | (scopes - IDENTITY.keys() if ADMIN in named else frozenset())


async def client_limit(db: AsyncSession, consent_id: uuid.UUID) -> ClientLimit | None:
    """Return what bounds a session with this consent; None when it was withdrawn."""
    return read_limit(await db.scalar(limit_on(literal(consent_id))))


def limit_on(
    consent_id: InstrumentedAttribute[uuid.UUID | None] | ColumnElement[uuid.UUID],
) -> Select[Any]:
    """Select the limit of a session with this consent, for `read_limit`: one value."""
    values = {
        "registration_id": Registration.id,
        "trusted": Registration.trusted,
        "ceiling": Registration.scopes,
        "implied": Consent.implied,
        "consented": Consent.scopes,
        "refresh_grace": Registration.refresh_grace,
    }
    pairs = [each for pair in values.items() for each in pair]
    return (
        select(func.json_build_object(*pairs))
        .select_from(Consent)
        .join(Registration)
        .where(Consent.id == consent_id)
    )


def read_limit(found: Mapping[str, Any] | None) -> ClientLimit | None:
    """Return what `limit_on` has selected; None for a session of no registered client."""
    if found is None:
        return None
    # What a client was let do because it was trusted counts only while it is.
    counts = found["trusted"] or not found["implied"]
    ceiling = found["ceiling"]
    return ClientLimit(
        uuid.UUID(found["registration_id"]),
        found["trusted"],
        None if ceiling is None else frozenset(ceiling),
        frozenset(found["consented"] if counts else ()),
        found["refresh_grace"],
    )
