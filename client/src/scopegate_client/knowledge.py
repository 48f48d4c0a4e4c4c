"""What the stream has told, and what follows for a token. Pure: the caller reads the clock.

Times in tokens and events are whole seconds, rounded down. A token of the very second of an event
may be older or newer than the event: only introspection can tell.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scopegate_client.freshness import DatabaseClock, Freshness
from scopegate_client.principals import Principal

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
OWN = "urn:scopegate:event:"
SESSION_REVOKED = f"{CAEP}session-revoked"
REFUSING = {SESSION_REVOKED, f"{RISC}account-disabled", f"{RISC}account-purged"}
"""What ends all older tokens of a session or a user for good."""
OF_SESSIONS = {SESSION_REVOKED, f"{OWN}grants-changed"}
"""What is about the session, and no other of the user, where both are named."""
BY_ID = {f"{OWN}token-revoked": "jti", f"{OWN}client-changed": "client_id"}
EVERY_TOKEN = ("every", "token")

UNCONFIRMED = 1.0
"""Seconds for which an answer counts while the stream proves nothing, or the bound if smaller."""
MAX_AGE, MAX_TOUCHED = 3600.0, 100_000
"""For how many seconds, and of how many subjects, it is kept what events touched."""


@dataclass(slots=True)
class _Touch:
    """What events have done to the tokens of one subject."""

    second: int
    """Tokens that were issued in it or before must be introspected."""
    at: float
    """When the last event was heard: older answers of introspection don't count."""
    refused_before: float = -math.inf
    """Tokens that were issued before this second are refused."""


class Ruling(NamedTuple):
    """What follows for a token."""

    refused: bool
    by_itself: bool
    """Whether a token whose signature is good counts by what it says, without introspection."""
    since: float
    """An answer of introspection that was asked for at this moment or later counts."""
    until: float = -math.inf
    """Until when a token that counts by itself does so, if nothing but beats is heard before."""


class Knowledge:
    """What the streams of one process have told so far."""

    def __init__(self, issuer: str, *, bound: float) -> None:
        self._issuer, self._bound = issuer, bound
        self.freshness = Freshness(bound)
        self.through: int | None = None
        """What the last beat said: a new stream can resume there."""
        self.events = 0
        self.version = 0
        """Changes with all that is heard except beats: then each ruling must be made anew."""
        self._clock: DatabaseClock | None = None
        # A change to tokens issued at `complete_since` (ms) or later, or to answers asked for at
        # `listening_since` or later, has been heard or will be.
        self._complete_since = self._listening_since = math.inf
        self._keys_changed_at = -math.inf
        self._touched: OrderedDict[tuple[str, str], _Touch] = OrderedDict()

    def hello(self, said: Mapping[str, Any], clock: DatabaseClock, *, received: float) -> None:
        """Begin a stream, whose first frame said this."""
        self.version += 1
        self._clock = clock
        self.freshness.bound = min(self._bound, said["bound"] / 1000)
        if not said["resumed"] or self.through is None or said["complete_since"] > self.through:
            self.through, self._complete_since = None, said["complete_since"]
            ahead = max(0, said["complete_since"] - said["now"]) / 1000
            self._listening_since, self._keys_changed_at = received + ahead, received

    def beat(self, through: int, clock: DatabaseClock, *, received: float) -> None:
        """Hear that each change before `through` has come, by the clock of this stream."""
        self.through = through
        self.freshness.hear(through, clock, received=received)

    def everything(self, received: float) -> None:
        """Forget all: a change before this moment may have been lost."""
        self.version += 1
        self._listening_since = self._keys_changed_at = received
        if self._clock is not None:
            self._complete_since = max(self._complete_since, self._clock.read(received))

    def event(self, said: Any, *, received: float) -> None:
        """Hear a Security Event Token (RFC 8417). One that can't be read counts as everything."""
        self.events += 1
        self.version += 1
        try:
            for kind, detail in said["events"].items():
                if kind == f"{OWN}keys-changed":
                    self._keys_changed_at = received
                else:
                    second = int(detail["event_timestamp"])
                    self._touch(self._subject(kind, said["sub_id"]), kind, second, received)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            self.everything(received)

    def _subject(self, kind: str, about: Mapping[str, Any]) -> tuple[str, str]:
        """Return a claim, and its value in the tokens that an event is about (RFC 9493).

        Raises ValueError, KeyError or TypeError where that can't be told.
        """
        if kind == f"{OWN}scopes-changed":
            return EVERY_TOKEN
        if about["format"] == "complex":
            if "session" in about and (kind in OF_SESSIONS or "user" not in about):
                return "sid", str(about["session"]["id"])
            about = about["user"]
        if about["format"] == "iss_sub" and about["iss"] == self._issuer:
            return "sub", str(about["sub"])
        if about["format"] == "opaque" and kind in BY_ID:
            return BY_ID[kind], str(about["id"])
        raise ValueError("an unknown subject")

    def _touch(self, subject: tuple[str, str], kind: str, second: int, at: float) -> None:
        touch = self._touched.setdefault(subject, _Touch(second, at))
        touch.second, touch.at = max(touch.second, second), at
        if kind in REFUSING:
            # A session that has ended gets no newer tokens.
            ended = math.inf if subject[0] == "sid" else second
            touch.refused_before = max(touch.refused_before, ended)
        self._touched.move_to_end(subject)
        oldest = next(iter(self._touched.values()))
        while len(self._touched) > MAX_TOUCHED or at - oldest.at > MAX_AGE:
            # What is forgotten might have touched any token and any answer that is older.
            self._touched.popitem(last=False)
            self._complete_since = max(self._complete_since, (oldest.second + 1) * 1000)
            self._listening_since = max(self._listening_since, oldest.at)
            oldest = next(iter(self._touched.values()))

    def keys_since(self, at: float) -> float:
        """Return the moment since when keys must have been fetched."""
        return self._keys_again if at >= self._keys_again else self._keys_changed_at

    @property
    def _keys_again(self) -> float:
        """Keys are fetched twice: a replica may hear of new ones a bound later than another."""
        return self._keys_changed_at + self.freshness.bound

    def rule(
        self, token: Principal | None, at: float, *, keys_fetched: float | None = None
    ) -> Ruling:
        """Return what follows for a token that says this, verified by keys of that moment.

        None is an opaque token of which nothing is known.
        """
        fresh = self.freshness.fresh(at)
        since = self._listening_since if fresh else at - min(UNCONFIRMED, self.freshness.bound)
        if token is None:
            return Ruling(refused=False, by_itself=False, since=since)
        issued_at = token.issued_at.timestamp()
        by_itself = fresh and issued_at * 1000 >= self._complete_since
        if keys_fetched is not None and keys_fetched < self._keys_changed_at:
            by_itself, since = False, max(since, self._keys_changed_at)
        expires = self._expires(token)
        refused = fresh and at >= expires
        for subject in (
            ("sid", token.session_id),
            ("sub", token.subject),
            ("client_id", token.client_id),
            ("jti", token.claims["jti"]),
            EVERY_TOKEN,
        ):
            touch = self._touched.get(subject)
            if touch is not None and issued_at <= max(touch.second, touch.refused_before):
                by_itself, since = False, max(since, touch.at)
                refused = refused or issued_at < touch.refused_before
        until = min(expires, self.freshness.heard_up_to + self.freshness.bound)
        if keys_fetched is not None and keys_fetched < self._keys_again:
            until = min(until, self._keys_again)
        return Ruling(refused, by_itself, since, until)

    def _expires(self, token: Principal) -> float:
        if self._clock is None:
            return math.inf
        return self._clock.moment(int(token.expires_at.timestamp() * 1000))
