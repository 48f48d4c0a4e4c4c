"""Bounds on what strangers may ask for: sign-ups, and mails with links.

Each request is charged before anything is done, whether there is such an account or not. The
algorithm and the table are the throttle's: see `identity.throttle`.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import case, func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.work import Reader
from app.errors import Unavailable
from app.identity.models import FailureBudget
from app.identity.networks import network_of
from app.identity.throttle import SLACK, FailureLimit, Throttle

# An office behind one address, and a person who tries again a few times.
BY_NETWORK = FailureLimit("asked from", burst=20, interval=timedelta(seconds=25))
# A person who tries again. The sender of mails bounds them too: this one bounds the work.
FOR_ADDRESS_THERE = FailureLimit("asked there for", burst=5, interval=timedelta(minutes=2))
# From very many networks. Generous: strangers must not keep a person from a link of their own.
FOR_ADDRESS = FailureLimit("asked for", burst=90, interval=timedelta(seconds=5))
LIMITS = (BY_NETWORK, FOR_ADDRESS_THERE, FOR_ADDRESS)
assert all(limit.slack <= SLACK for limit in LIMITS)  # Else rows go too early.


class AskedTooOften(Unavailable):
    """Too many requests from there, or for that address: the same whether it has an account."""

    status = 429
    text = "This was asked for too often: wait, then try again."

    def __init__(self, wait: timedelta) -> None:
        super().__init__()
        self.retry_after = math.ceil(wait / timedelta(seconds=1))


async def charge_request(
    db: Reader,
    throttle: Throttle,
    *,
    network_address: str | None,
    about: tuple[str, str],
    now: datetime,
) -> None:
    """Charge a request to its network and to the e-mail address that it is about.

    `about` is what is wanted, and the address's key. Raises AskedTooOften, and then only the other
    budgets have changed. Several requests at once are each charged.
    """
    network = network_of(network_address)
    keys = {
        throttle.key(BY_NETWORK.counted, network): BY_NETWORK,
        throttle.key(FOR_ADDRESS_THERE.counted, network, *about): FOR_ADDRESS_THERE,
        throttle.key(FOR_ADDRESS.counted, *about): FOR_ADDRESS,
    }
    rows = [
        {"key": key, "open_at": now - limit.slack + limit.interval} for key, limit in keys.items()
    ]
    charged = insert(FailureBudget).values(rows)
    intervals = {key: limit.interval for key, limit in keys.items()}
    interval = case(intervals, value=FailureBudget.key)
    charged = charged.on_conflict_do_update(
        index_elements=[FailureBudget.key],
        set_={"open_at": func.greatest(FailureBudget.open_at + interval, charged.excluded.open_at)},
        where=FailureBudget.open_at <= now,
    )
    admitted = set((await db.execute(charged.returning(FailureBudget.key))).scalars())
    await db.commit()
    refused = [key for key in keys if key not in admitted]
    if refused:
        raise AskedTooOften(await _wait(db, refused, now))


async def _wait(db: Reader, keys: Sequence[bytes], now: datetime) -> timedelta:
    opens: Iterable[datetime] = (
        await db.execute(select(FailureBudget.open_at).where(FailureBudget.key.in_(keys)))
    ).scalars()
    return max([timedelta(seconds=1), *(each - now for each in opens)])
