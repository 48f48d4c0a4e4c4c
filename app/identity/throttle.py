"""The throttle: it limits failed passwords and client secrets, over all replicas together.

Only failures are charged: to the account at that address, to the address, and gently to the
account. Beyond a limit, attempts are refused before anything is hashed or written, for MAX_WAIT at
most. Where a user has signed in before, failures from elsewhere never make them wait.

A login is admitted before its password is checked, and charged after a failure. So successful
logins write nothing and never wait for each other. Guesses that are sent at once would all be
admitted before the first is charged. So an attempt that had to wait for a hashing thread is checked
again when its turn comes, by a statement that writes nothing (`Throttle.look_again`):

- The first check refuses when `burst` failures are charged, so the budget is used up.
- The second refuses when more than `burst` are.

So if `burst` + 1 attempts arrive at once, every password is checked, in any order: a correct one
among `burst` wrong ones is accepted. Beyond that, only attempts that are being hashed or charged at
that moment can exceed the limit: about two for each hashing thread of all replicas. They are
charged too, so the wait gets longer.

The algorithm is GCRA. Each budget has one timestamp, `open_at`. A failure moves it forward by the
limit's interval, starting no earlier than `slack` ago. Attempts are refused while it is in the
future.
"""

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    String,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    exists,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import InstrumentedAttribute

from app.audit.limits import EntryLimit
from app.audit.log import record
from app.crypto import mac
from app.db.work import Actor, Connect, Database, Reader
from app.errors import Unavailable
from app.identity.models import FailureBudget, KnownNetwork
from app.identity.names import username_key
from app.identity.networks import network_of
from app.identity.users import NO_USER_ID


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """`burst` failures at once, then one every `interval`."""

    counted: str
    burst: int
    interval: timedelta

    @property
    def slack(self) -> timedelta:
        """How long a budget that is used up takes to be whole again."""
        return (self.burst - 1) * self.interval


# More than a person mistypes; then 2,880 guesses a day from one place.
ACCOUNT_AND_ADDRESS = FailureLimit("account and address", burst=10, interval=timedelta(seconds=30))
# An office or a school behind one address mistypes more. One account can't use this up alone: its
# own limit stops it, so a program with an outdated password makes no other account wait.
ADDRESS = FailureLimit("address", burst=100, interval=timedelta(seconds=2))
# For guesses from very many addresses: 17,280 a day. A user who signs in from a new place meanwhile
# may have to wait, so it is generous.
ACCOUNT = FailureLimit("account", burst=100, interval=timedelta(seconds=5))
# For guesses at the current password with a stolen token, which could come from any number of
# addresses. The user's other sessions and logins have budgets of their own.
SESSION = FailureLimit("session", burst=10, interval=timedelta(seconds=30))

# Several budgets are always charged in this order.
LOGIN = (ACCOUNT_AND_ADDRESS, ADDRESS, ACCOUNT)
# For service accounts. What happens elsewhere must not keep them out, and their 256 random bits
# can't be guessed: only the work is bounded.
AT_THIS_ADDRESS = (ACCOUNT_AND_ADDRESS, ADDRESS)
# For the current password of a signed-in user. Not the account's budget: guesses from elsewhere
# must not keep users from changing their password.
CURRENT_PASSWORD = (ACCOUNT_AND_ADDRESS, ADDRESS, SESSION)

MAX_WAIT = timedelta(minutes=15)
"""Long enough that parallel guesses are paid for, short enough to be waited for by a person."""
SLACK = max(limit.slack for limit in (*LOGIN, SESSION))
"""A budget whose `open_at` is that long ago is whole, whichever it is: its row can go."""
_TOLERANCE = 1.5
"""The second check refuses when `open_at` is more than this many intervals ahead. Exactly `burst`
failures put it one ahead; the half allows for small differences between two replicas' clocks."""


def budget_counts(
    user_id: ColumnElement[uuid.UUID] | InstrumentedAttribute[uuid.UUID],
) -> ColumnElement[bool]:
    """Return the condition that an attempt of this user is judged by a budget.

    `Attempt.values` are its values.
    """
    known = exists().where(
        # An id that no user has is looked up too: not even the work differs.
        KnownNetwork.user_id == func.coalesce(user_id, NO_USER_ID),
        KnownNetwork.network == bindparam("network", type_=String()),
    )
    return and_(
        FailureBudget.key == any_(bindparam("budgets", type_=ARRAY(LargeBinary()))),
        # The account's budget counts only where its owner is not known.
        or_(
            FailureBudget.key != bindparam("account", type_=LargeBinary()),
            not_(known.correlate_except(KnownNetwork)),
        ),
    )


# Built once, because many logins run it.
_BUDGETS = select(FailureBudget.key, FailureBudget.open_at).where(
    budget_counts(bindparam("user_id", type_=Uuid()))
)


class Throttled(Unavailable):
    """Too many failures: refused unchecked, with the same answer whether the name exists or not."""

    status = 429
    text = "There were too many wrong passwords or secrets."

    def __init__(self, wait: timedelta) -> None:
        super().__init__()
        self.retry_after = math.ceil(wait / timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class AttemptSource:
    """Which account an attempt is for, and where it comes from."""

    name: str
    """As it was typed: failures for names without a user are charged too."""
    user_id: uuid.UUID | None
    """Whose name it is."""
    address: str | None
    session_id: uuid.UUID | None = None
    """The session in which the current password is asked for."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt, and the budgets that its failure is charged to."""

    budgets: Mapping[FailureLimit, bytes]
    user_id: uuid.UUID | None
    network: str
    made_at: datetime

    def values(self) -> dict[str, object]:
        """Return the values of `budget_counts`."""
        return {
            "budgets": list(self.budgets.values()),
            "account": self.budgets.get(ACCOUNT, b""),
            "network": self.network,
        }


class Throttle:
    """Admits attempts. Its table has no names and no addresses, only keyed digests of them.

    `connect` makes connections whose every statement is a transaction of its own. `refused` counts
    the attempts that this process refused. `entries` bounds the audit entries of clients.
    """

    def __init__(self, secret_keys: list[str], connect: Connect) -> None:
        self._secret = secret_keys[0].encode()
        self.connect = connect
        self.refused = 0
        self.entries = EntryLimit()

    def attempt(
        self, limits: Iterable[FailureLimit], source: AttemptSource, *, now: datetime
    ) -> Attempt:
        """Return the attempt, which is not admitted yet."""
        network, key = network_of(source.address), username_key(source.name)
        budgets = {limit: self._key(limit, key, network, source.session_id) for limit in limits}
        return Attempt(budgets, source.user_id, network, now)

    async def admit(self, db: Reader, attempt: Attempt, *, waited: float | None = None) -> None:
        """Return if the attempt is within all limits. Raises Throttled.

        After `waited` seconds in the queue, it is refused only when more than `burst` failures are
        counted: see the module's docstring. One statement, which writes nothing.
        """
        values = {**attempt.values(), "user_id": attempt.user_id}
        self.judge(attempt, dict((await db.execute(_BUDGETS, values)).all()), waited=waited)

    async def look_again(self, attempt: Attempt, waited: float) -> None:
        """Admit the attempt once more when its turn comes, on a connection of its own."""
        async with self.connect() as db:
            await self.admit(db, attempt, waited=waited)

    def judge(
        self, attempt: Attempt, spent: Mapping[bytes, datetime], *, waited: float | None = None
    ) -> None:
        """Return if what is left of its budgets admits the attempt, as in `admit`.

        Raises Throttled.
        """
        now = attempt.made_at + timedelta(seconds=waited or 0)
        tolerance = 0 if waited is None else _TOLERANCE
        waits = [
            spent[key] - now
            for limit, key in attempt.budgets.items()
            if key in spent and spent[key] > now + tolerance * limit.interval
        ]
        if waits:
            self.refused += 1
            raise Throttled(max(waits))

    def _key(
        self, limit: FailureLimit, name: str, network: str, session_id: uuid.UUID | None = None
    ) -> bytes:
        # The name comes last: it alone can contain the separator.
        parts = {ACCOUNT_AND_ADDRESS: (network, name), ADDRESS: (network,), ACCOUNT: (name,)}
        return self.key(limit.counted, *parts.get(limit, (str(session_id),)))

    def key(self, *parts: str) -> bytes:
        """Return the keyed digest under which a budget is kept."""
        text = "\0".join(parts)
        return mac(self._secret, b"throttle", text.encode("utf-8", "surrogatepass"))


async def charge(db: Reader, attempt: Attempt, *, now: datetime) -> list[str]:
    """Charge a failure to all its budgets, in one statement; which limits it has reached.

    What other attempts were charged meanwhile adds up, on whatever replica. They wait for the
    transaction to end.
    """
    # Always in the limits' order, so that two attempts that charge the same budgets never deadlock.
    rows: list[dict[str, Any]] = [
        {"key": key, "open_at": now - limit.slack + limit.interval}
        for limit, key in attempt.budgets.items()
    ]
    charged = insert(FailureBudget).values(rows)
    intervals = {key: limit.interval for limit, key in attempt.budgets.items()}
    interval = case(intervals, value=FailureBudget.key)
    open_at = func.greatest(FailureBudget.open_at + interval, charged.excluded.open_at)
    charged = charged.on_conflict_do_update(
        index_elements=[FailureBudget.key], set_={"open_at": func.least(open_at, now + MAX_WAIT)}
    )
    found = await db.execute(charged.returning(FailureBudget.key, FailureBudget.open_at))
    moments = dict(found.all())
    return [
        limit.counted
        for limit, key in attempt.budgets.items()
        # Past the limit by one failure, not by more: it was within it before.
        if now < moments[key] <= now + limit.interval
    ]


async def record_failure(
    database: Database,
    throttle: Throttle,
    attempt: Attempt,
    *,
    actor: Actor,
    reason: str,
    left_out: int | None = 0,
) -> None:
    """Charge a failure, and audit it with the limits that it has reached, if any.

    Charging and auditing use separate transactions, so a failed audit write never undoes a charge.
    The caller must hold no other connection: many concurrent failures would use up the pool.
    `left_out` is what `EntryLimit.admit` returned: how many earlier failures have no entry, or None
    if this one gets none either.
    """
    # Many failures may charge one account at once. None may keep its row locked while it waits for
    # another statement or for the disk.
    async with throttle.connect() as db:
        reached = await charge(db, attempt, now=attempt.made_at)
        await db.commit()
    if left_out is None:
        return
    async with database.work(actor) as work:
        detail = {"reason": reason, **({"left_out": left_out} if left_out else {})}
        record(work, "login.failed", subject=attempt.user_id, **detail)
        if reached:
            record(work, "login.throttled", subject=attempt.user_id, reached=reached)
