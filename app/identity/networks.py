"""Networks: what counts as one address, and where users have signed in before."""

import ipaddress
import uuid
from datetime import timedelta

from sqlalchemy import ColumnElement, DateTime, String, bindparam, exists, not_, select
from sqlalchemy.dialects.postgresql import Insert, insert

from app.db.work import Actor, Work
from app.identity.models import KnownNetwork

KNOWN_FOR = timedelta(days=365)
"""After the last login from there. Some people come once a year."""
_RENEWED_AFTER = timedelta(days=1)


def network_of(address: str | None) -> str:
    """What counts as one address: of IPv6 a /64, as all 2⁶⁴ addresses in it are one customer's."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address or ""
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))


def insert_network(user_id: ColumnElement[uuid.UUID], where: ColumnElement[bool]) -> Insert:
    """Build the statement that remembers where a user signs in from, if that condition holds.

    Failures from elsewhere don't make them wait there. `network_values` are its values.
    """
    # Not by the columns' names: those are the statement's own.
    network, now, renewed_before = (
        bindparam("from_network", type_=String()),
        bindparam("from_now", type_=DateTime(timezone=True)),
        bindparam("renewed_before", type_=DateTime(timezone=True)),
    )
    # Looked for first: ON CONFLICT locks the row even where it changes nothing, and then a user's
    # parallel logins would wait for each other.
    lately = exists().where(
        KnownNetwork.user_id == user_id,
        KnownNetwork.network == network,
        KnownNetwork.signed_in_at >= renewed_before,
    )
    return (
        insert(KnownNetwork)
        .from_select(
            ["user_id", "network", "signed_in_at"],
            select(user_id, network, now).where(where, not_(lately)),
        )
        .on_conflict_do_update(
            index_elements=[KnownNetwork.user_id, KnownNetwork.network],
            set_={"signed_in_at": now},
        )
    )


def network_values(work: Work[Actor]) -> dict[str, object]:
    """Return the values for `insert_network`: the actor's network, now."""
    return {
        "from_network": network_of(work.actor.origin.address),
        "from_now": work.now,
        "renewed_before": work.now - _RENEWED_AFTER,
    }
