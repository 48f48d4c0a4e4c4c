"""The queue before the hashing threads: which call is served next, and which is refused.

A call that finds no thread free waits in one of two lanes: `logins`, or `accounts` for password
changes, resets and new users. The lanes are served in turn, so a storm of logins never keeps an
administrator from resetting a password.

In a lane, networks are served in turn, and in a network, accounts. So a call waits for one call
of each other network, not for all calls that came before it. Two bounds keep places free:

- An account holds at most an eighth of a lane's places, from all networks together.
- When a lane is full, the longest queue gives way: the network with the most calls loses the
  newest call of its account with the most calls. That can be the call that has just come.

The account of a login is the name that was typed, so the queue treats names alike whether they
exist or not. All of this runs on the event loop: nothing here needs a lock.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from app.db.work import Actor
from app.errors import Unavailable
from app.identity.networks import network_of

ACCOUNT_SHARE = 8
"""An account holds one place in so many."""
LEAST_PLACES = 4
"""Places that an account may hold in however small a queue."""

Disconnected = asyncio.Future[None]
"""Done when the client has hung up."""


class CallerGone(Unavailable):
    """The client hung up while its call waited for a hashing thread; this is never sent."""

    text = "The caller has gone."


class TooManyLogins(Unavailable):
    """The call's share of the queue is used up, or the whole queue: try again in a moment."""

    text = "Too many logins at once: try again in a moment."


@dataclass(frozen=True, slots=True)
class Source:
    """Whose call it is, and from where. The default is the service itself and its commands."""

    lane: Literal["logins", "accounts"] = "accounts"
    network: str = ""
    account: str = ""


def source_of(actor: Actor) -> Source:
    """Return the queue's source for a call with which a user or a command changes an account."""
    return Source("accounts", network_of(actor.origin.address), str(actor.user_id))


@dataclass(eq=False, slots=True)
class _Call:
    source: Source
    turn: asyncio.Future[None]


_Accounts = dict[str, deque[_Call]]
"""One network's waiting calls by account, in the order in which the accounts are served."""


class _Lane:
    """Waiting calls: networks are served in turn, and so are the accounts of each."""

    def __init__(self, places: int, share: int) -> None:
        self._places = places
        self._share = share
        self._networks: dict[str, _Accounts] = {}

    def __len__(self) -> int:
        return sum(map(_size, self._networks.values()))

    def add(self, call: _Call) -> _Call | None:
        """Add a call. Return the call that must go if there are too many, perhaps this one."""
        network = self._networks.setdefault(call.source.network, {})
        calls = network.setdefault(call.source.account, deque())
        calls.append(call)
        same = [
            each[call.source.account]
            for each in self._networks.values()
            if call.source.account in each
        ]
        # Of equals, the newcomer's own queue loses: what waits already is not pushed out.
        if sum(map(len, same)) > self._share:
            return max(same, key=lambda each: (len(each), each is calls))[-1]
        if len(self) > self._places:
            largest = max(self._networks.values(), key=lambda each: (_size(each), each is network))
            return max(largest.values(), key=lambda each: (len(each), each is calls))[-1]
        return None

    def keeps(self, source: Source) -> bool:
        """Whether a call from there would find a place now."""
        probe = _Call(source, asyncio.get_running_loop().create_future())
        kept = self.add(probe) is not probe
        self.remove(probe)
        return kept

    def next(self) -> _Call | None:
        """Take out the call whose turn it is; None if no call waits."""
        while self._networks:
            network = next(iter(self._networks))
            accounts = self._networks.pop(network)
            account = next(iter(accounts))
            calls = accounts.pop(account)
            call = calls.popleft()
            # The rest goes behind the others.
            if calls:
                accounts[account] = calls
            if accounts:
                self._networks[network] = accounts
            if not call.turn.done():  # Else it has just been cancelled.
                return call
        return None

    def remove(self, call: _Call) -> None:
        """Take out this call, if it is still there."""
        network, account = call.source.network, call.source.account
        calls = self._networks.get(network, {}).get(account)
        if calls is None or call not in calls:
            return
        calls.remove(call)
        if not calls:
            del self._networks[network][account]
        if not self._networks[network]:
            del self._networks[network]


def _size(network: _Accounts) -> int:
    return sum(map(len, network.values()))


class HashQueue:
    """Admits `threads` + 1 calls at once; up to `places` calls of each lane wait.

    The extra call is handed to the executor while the threads are busy, so that a free thread never
    waits for the event loop. It counts as waiting and takes one place of each lane.
    """

    def __init__(self, *, threads: int, places: int) -> None:
        self._free = threads + 1
        share = max(LEAST_PLACES, places // ACCOUNT_SHARE)
        self._lanes = {"logins": _Lane(places - 1, share), "accounts": _Lane(places - 1, share)}
        self.refused = 0
        """Calls that found no place, or had to give theirs up."""

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        # The executor has one call more than threads, so that a thread which gets free has work.
        ready = 1 if self._free == 0 else 0
        return ready + sum(map(len, self._lanes.values()))

    def check_room(self, source: Source) -> None:
        """Raise TooManyLogins if a call from there would find no place now.

        For asking before a call costs a look into the database.
        """
        if not self._free and not self._lanes[source.lane].keeps(source):
            self.refused += 1
            raise TooManyLogins

    async def take_turn(self, source: Source, gone: Disconnected | None = None) -> float:
        """Wait for a turn and return the seconds waited; 0 if a turn was free.

        The caller must end the turn with `give_back`. Raises TooManyLogins, or CallerGone when
        `gone` is done first.
        """
        if self._free:
            self._free -= 1
            return 0.0
        began = time.monotonic()
        lane = self._lanes[source.lane]
        call = _Call(source, asyncio.get_running_loop().create_future())
        surplus = lane.add(call)
        if surplus is not None:
            self.refused += 1
            _refuse(lane, surplus, TooManyLogins())
        if gone is not None:
            gone.add_done_callback(lambda _: _refuse(lane, call, CallerGone()))
        try:
            await call.turn
        except asyncio.CancelledError:
            lane.remove(call)
            # The turn may have come in the very moment in which the task was cancelled.
            if not call.turn.cancelled() and call.turn.exception() is None:
                self.give_back()
            raise
        return time.monotonic() - began

    def give_back(self) -> None:
        """End a turn. A call that waits gets it, from each lane in turn."""
        for name in list(self._lanes):
            lane = self._lanes.pop(name)
            self._lanes[name] = lane  # Behind the other lane.
            call = lane.next()
            if call is not None:
                call.turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Cancel all calls that wait."""
        for lane in self._lanes.values():
            while call := lane.next():
                call.turn.cancel()


def _refuse(lane: _Lane, call: _Call, error: Unavailable) -> None:
    lane.remove(call)
    if not call.turn.done():
        call.turn.set_exception(error)
