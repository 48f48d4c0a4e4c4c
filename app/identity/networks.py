"""Networks: what counts as one address, and where users have signed in before."""

import ipaddress
import uuid
from datetime import timedelta

from sqlalchemy import DateTime, String, Uuid, bindparam, exists, not_, select
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


async def remember_network(work: Work[Actor], user_id: uuid.UUID) -> None:
    """Remember that the user has signed in from the actor's network.

    Failures from elsewhere don't make them wait there.
    """
    values = {
        "whose": user_id,
        "where": network_of(work.actor.origin.address),
        "now": work.now,
        "renewed_before": work.now - _RENEWED_AFTER,
    }
    await work.db.execute(_REMEMBER, values)


def _insert_network() -> Insert:
    # Not by the columns' names: those are the statement's own.
    user_id, network = bindparam("whose", type_=Uuid()), bindparam("where", type_=String())
    now, renewed_before = (
        bindparam(name, type_=DateTime(timezone=True)) for name in ("now", "renewed_before")
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
            select(user_id, network, now).where(not_(lately)),
        )
        .on_conflict_do_update(
            index_elements=[KnownNetwork.user_id, KnownNetwork.network],
            set_={"signed_in_at": now},
        )
        # The values are the statement's own, no rows to be inserted.
        .execution_options(dml_strategy="raw")
    )


# Built once, because each login runs it.
_REMEMBER = _insert_network()
