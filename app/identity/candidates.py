"""Candidates: one statement finds the accounts of some names, and what their attempts may cost.

A verified address counts as a name here.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Select,
    String,
    and_,
    any_,
    bindparam,
    case,
    func,
    literal,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.identity.models import ClientSecret, FailureBudget, User
from app.identity.names import existing_username, username_key
from app.identity.throttle import Attempt, Throttle, budget_counts
from app.mail.addresses import find_address

NO_KEY = ""
"""No user has this key: a name that no user can have is looked up all the same."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A user with one of the names or addresses, and what they authenticate by."""

    id: uuid.UUID
    username: str
    username_key: str
    email_key: str | None
    kind: str
    password_hash: str | None
    disabled_at: datetime | None
    secrets: Sequence[bytes] | None
    """The digests of a service account's live secrets; None if it has none."""
    granted: Any
    """What `select_candidates` was given to select."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """That a person has shown who they are: when, by what, and what it rests on."""

    user_id: uuid.UUID
    credential_version: str
    """The hash of the password that they have shown. It opens a session only while it is theirs."""
    at: datetime
    methods: tuple[str, ...] = ("pwd",)
    """By the names of RFC 8176."""


def account_key(typed: str) -> str:
    """Return under which key failures for this name or address are counted.

    One key for all spellings that find the same account.
    """
    address = find_address(typed)
    return username_key(address.key if address else typed)


async def find_candidates(
    throttle: Throttle,
    names: Sequence[str],
    attempt: Attempt,
    *,
    by: Select[Any] | None = None,
    **also: object,
) -> list[Candidate | None]:
    """Return the user of each name or verified address, if the attempt is within its limits.

    None where there is none.

    One statement on a connection of its own, which writes nothing: the same for names that exist
    and for others. `by` is another statement of `select_candidates`, whose values are in `also`.
    Raises Throttled.
    """
    keys = [username_key(each) if existing_username(each) else NO_KEY for each in names]
    addresses = [found.key if (found := find_address(each)) else NO_KEY for each in names]
    async with throttle.connect() as db:
        values = {"names": keys, "addresses": addresses, **attempt.values(), **also}
        rows = (await db.execute(_CANDIDATES if by is None else by, values)).all()
    budgets, open_at, *_ = rows[0]
    throttle.judge(attempt, dict(zip(budgets or (), open_at or (), strict=True)))
    candidates = [Candidate(*row[2:]) for row in rows if row.id]
    by_name = {each.username_key: each for each in candidates}
    by_address = {each.email_key: each for each in candidates}
    return [
        by_name.get(key) or by_address.get(address)
        for key, address in zip(keys, addresses, strict=True)
    ]


def select_candidates(granted: Select[Any] | None = None) -> Select[Any]:
    """Return the statement of `find_candidates`, which selects what is granted to each too."""
    # There is a row also where no user is found: with the budgets.
    always = select(literal(1).label("one")).subquery()
    named = or_(
        User.username_key == any_(bindparam("names", type_=ARRAY(String()))),
        # An address that its reader has not confirmed stands for no account.
        and_(
            User.email_key == any_(bindparam("addresses", type_=ARRAY(String()))),
            User.email_verified_at.is_not(None),
        ),
    )
    budgets = (
        select(
            func.array_agg(FailureBudget.key).label("budgets"),
            func.array_agg(FailureBudget.open_at).label("open_at"),
        )
        .where(budget_counts(User.id))
        .lateral()
    )
    digests = select(func.array_agg(ClientSecret.digest)).where(ClientSecret.user_id == User.id)
    return (
        select(
            budgets.c.budgets,
            budgets.c.open_at,
            User.id,
            User.username,
            User.username_key,
            case((User.email_verified_at.is_not(None), User.email_key)).label("email_key"),
            User.kind,
            User.password_hash,
            User.disabled_at,
            digests.scalar_subquery(),
            null() if granted is None else granted.scalar_subquery(),
        )
        .select_from(always)
        .outerjoin(User, named)
        .join(budgets, true())
    )


# Built once, because each login runs it.
_CANDIDATES = select_candidates()
