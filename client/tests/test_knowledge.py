"""What the stream has told, and what follows for a token: each rule, with clocks that are given."""

import json
from typing import Any

import pytest

from scopegate_client import knowledge as rules
from scopegate_client.freshness import DatabaseClock
from scopegate_client.knowledge import Knowledge, Ruling
from scopegate_client.principals import Principal, parse

ISSUER = "https://auth.example"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
OWN = "urn:scopegate:event:"
START = 1_000_000
"""The database's second at this machine's moment 0."""
ALICE = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
SESSION = {"format": "complex", "user": ALICE, "session": {"format": "opaque", "id": "session"}}


class Told:
    """Knowledge, and the one clock that all of a test goes by: the two clocks agree."""

    def __init__(self, *, complete_since: float = -100.0, bound: int = 5000) -> None:
        self.knowledge = Knowledge(ISSUER, bound=5.0)
        self.at = 0.0
        self.bound = bound
        self.clock = DatabaseClock(0.0, START * 1000)
        self.hello(complete_since=complete_since)
        self.beat()

    def ms(self, at: float | None = None) -> int:
        """Return what the database's clock shows."""
        return START * 1000 + round((self.at if at is None else at) * 1000)

    def hello(self, *, complete_since: float, resumed: bool = False, ahead: float = 0.0) -> None:
        said = {"complete_since": self.ms(complete_since), "resumed": resumed, "bound": self.bound}
        self.clock = DatabaseClock(self.at, self.ms())
        said["now"] = self.ms() - round(ahead * 1000)
        self.knowledge.hello(said, self.clock, received=self.at)

    def beat(self) -> None:
        self.knowledge.beat(self.ms(), self.clock, received=self.at)

    def event(self, kind: str, about: dict[str, Any], second: int = 0) -> None:
        said = {
            "iss": ISSUER,
            "jti": "event",
            "sub_id": about,
            "events": {kind: {"event_timestamp": START + second}},
        }
        self.knowledge.event(said, received=self.at)

    def later(self, seconds: float) -> None:
        """Let time pass, with the stream going on."""
        self.at += seconds
        self.beat()

    def rule(self, token: Principal | None, **options: Any) -> Ruling:
        return self.knowledge.rule(token, self.at, **options)

    def counts(self, token: Principal) -> bool:
        """Return whether the token counts by what it says."""
        ruling = self.rule(token)
        return ruling.by_itself and not ruling.refused

    def must_be_introspected(self, token: Principal) -> bool:
        """Return whether only a new answer of introspection counts."""
        ruling = self.rule(token)
        return not ruling.refused and not ruling.by_itself and ruling.since >= self.at

    def refused(self, token: Principal) -> bool:
        return self.rule(token).refused


def token(issued: int = -10, *, lives: int = 900, **claims: str) -> Principal:
    """Return what a token says that was issued so many seconds after the start."""
    said = {"sub": "alice", "sid": "session", "client_id": "console", "jti": "token", **claims}
    times = {"iat": START + issued, "exp": START + issued + lives}
    return parse({"scope": "read:orders", **said, **times})


def test_a_token_that_no_event_touched_counts_by_what_it_says() -> None:
    told = Told()
    assert told.counts(token())
    told.event(f"{OWN}grants-changed", ALICE | {"sub": "bob"})
    told.event(f"{CAEP}session-revoked", SESSION | {"session": {"format": "opaque", "id": "x"}})
    assert told.counts(token())


def test_a_token_of_before_the_stream_is_introspected_once() -> None:
    told = Told(complete_since=-5.5)
    assert told.must_be_introspected(token(-6))
    assert told.rule(token(-6)).since == told.at
    assert told.counts(token(-5)), "issued in the second after, so after"
    told.later(100)
    assert told.rule(token(-6)).since == 0.0, "an answer since the beginning still counts"


def test_a_token_of_the_second_in_which_the_stream_began_is_introspected() -> None:
    told = Told(complete_since=-5.999)
    assert told.must_be_introspected(token(-6))


@pytest.mark.parametrize("issued", [-10, 0, 1, 100])
def test_a_token_of_an_ended_session_is_refused_without_a_call(issued: int) -> None:
    told = Told()
    told.event(f"{CAEP}session-revoked", SESSION)
    assert told.refused(token(issued))
    assert told.counts(token(issued, sid="another"))


@pytest.mark.parametrize("kind", [f"{CAEP}session-revoked", f"{RISC}account-disabled"])
def test_an_event_of_a_user_refuses_older_tokens_and_has_those_of_its_second_introspected(
    kind: str,
) -> None:
    told = Told()
    told.event(kind, ALICE)
    assert told.refused(token(-1))
    assert told.must_be_introspected(token(0))
    assert told.counts(token(1))
    assert told.counts(token(-1, sub="bob"))


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        (f"{OWN}grants-changed", ALICE),
        (f"{OWN}scopes-changed", {"format": "opaque", "id": ISSUER}),
        (f"{OWN}client-changed", {"format": "opaque", "id": "console"}),
        (f"{OWN}token-revoked", {"format": "opaque", "id": "token"}),
        (f"{RISC}account-enabled", ALICE),
    ],
)
def test_what_else_changes_has_tokens_of_its_second_and_before_introspected_once(
    kind: str, about: dict[str, Any]
) -> None:
    told = Told()
    told.event(kind, about)
    told.later(1)
    for issued in (-10, 0):
        ruling = told.rule(token(issued))
        assert not ruling.refused
        assert not ruling.by_itself
        assert ruling.since == 0.0, "an answer that was asked for since then counts"
    assert told.counts(token(1))
    another = token(-10, sub="bob", client_id="orders", jti="another")
    assert told.counts(another) == (kind != f"{OWN}scopes-changed")


def test_when_what_a_session_may_do_changes_its_tokens_alone_are_introspected() -> None:
    told = Told()
    told.event(f"{OWN}grants-changed", SESSION)
    assert told.must_be_introspected(token(0))
    assert told.counts(token(0, sid="another"))


def test_a_later_event_has_the_token_introspected_again() -> None:
    told = Told()
    told.event(f"{OWN}grants-changed", ALICE)
    told.later(10)
    told.event(f"{OWN}grants-changed", ALICE, second=10)
    assert told.rule(token()).since == 10.0
    told.later(5)
    told.event(f"{OWN}grants-changed", ALICE, second=0)
    assert told.rule(token(10)).since == 15.0, "an event that is repeated takes nothing back"


def test_an_answer_that_an_event_overtook_does_not_count_any_more() -> None:
    told = Told(complete_since=5.0)
    asked = told.at
    told.later(1)
    told.event(f"{OWN}grants-changed", ALICE, second=1)
    assert asked < told.rule(token()).since


@pytest.mark.parametrize(
    "kind", ["urn:example:unknown", f"{CAEP}credential-change", f"{CAEP}session-established"]
)
def test_an_unknown_type_has_the_tokens_of_its_subject_introspected(kind: str) -> None:
    told = Told()
    told.event(kind, ALICE)
    assert told.must_be_introspected(token(0))
    assert told.counts(token(sub="bob"))
    told = Told()
    told.event(kind, {"format": "complex", "session": {"format": "opaque", "id": "session"}})
    assert told.must_be_introspected(token(0))
    assert told.counts(token(sid="another"))
    # About a user and a session: whichever is meant, it is not missed.
    told = Told()
    told.event(kind, SESSION)
    assert told.must_be_introspected(token(0))
    assert told.must_be_introspected(token(0, sid="another"))


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {"iss": ISSUER, "events": {"urn:x": {"event_timestamp": START}}},
        {"iss": ISSUER, "sub_id": ALICE, "events": {f"{OWN}grants-changed": {}}},
        {"iss": ISSUER, "sub_id": ALICE, "events": {f"{OWN}grants-changed": None}},
        {"iss": ISSUER, "sub_id": {"format": "email"}, "events": {"urn:x": {"event_timestamp": 1}}},
        {
            "iss": ISSUER,
            "sub_id": {"format": "opaque", "id": "?"},
            "events": {"urn:x": {"event_timestamp": START}},
        },
        {
            "iss": ISSUER,
            "sub_id": ALICE | {"iss": "https://other.example"},
            "events": {f"{OWN}grants-changed": {"event_timestamp": START}},
        },
    ],
    ids=json.dumps,
)
def test_an_event_whose_subject_cant_be_told_counts_as_everything(said: Any) -> None:
    told = Told()
    told.later(0.5)
    told.knowledge.event(said, received=told.at)
    assert told.must_be_introspected(token())
    assert told.must_be_introspected(token(0, sub="bob", sid="another"))
    assert told.counts(token(1))


def test_after_everything_only_tokens_that_are_issued_later_count_by_themselves() -> None:
    told = Told()
    told.later(20.5)
    told.knowledge.everything(told.at)
    assert told.must_be_introspected(token(20))
    assert told.counts(token(21))
    told.later(1)
    assert told.rule(token(20)).since == 20.5


def test_a_resumed_stream_keeps_all_that_is_known() -> None:
    told = Told()
    told.event(f"{OWN}grants-changed", ALICE)
    told.at = 3.0
    told.hello(complete_since=0.0, resumed=True)
    assert told.counts(token(-10, sub="bob"))
    assert told.rule(token()).since == 0.0
    assert told.knowledge.freshness.fresh(told.at), "what was proven is proven"


@pytest.mark.parametrize(
    ("complete_since", "resumed"),
    [(3.0, False), (0.001, True)],
    ids=["it says so", "it does not reach back to where the last one ended"],
)
def test_after_a_gap_between_streams_tokens_and_answers_of_before_count_no_more(
    complete_since: float, resumed: bool
) -> None:
    told = Told()
    told.at = 3.0
    told.hello(complete_since=complete_since, resumed=resumed)
    assert told.must_be_introspected(token())
    assert told.counts(token(4))
    told.later(1)
    assert told.rule(token()).since == 3.0


def test_a_stream_can_only_resume_where_a_beat_has_come() -> None:
    told = Told()
    told.hello(complete_since=0.0)
    assert told.knowledge.through is None
    told.hello(complete_since=-50.0, resumed=True)
    assert told.must_be_introspected(token(-60))


def test_answers_count_from_when_the_stream_is_complete() -> None:
    told = Told()
    told.at = 3.0
    told.hello(complete_since=3.0, ahead=2.0)
    assert told.rule(None).since == 5.0


def test_while_the_stream_is_not_fresh_only_answers_of_the_last_second_count() -> None:
    told = Told()
    told.at = 5.0
    ruling = told.rule(token())
    assert not ruling.by_itself
    assert ruling.since == 4.0
    assert told.rule(None).since == 4.0


def test_while_the_stream_is_not_fresh_no_answer_counts_for_longer_than_the_bound() -> None:
    told = Told(bound=400)
    told.at = 5.0
    assert told.rule(token()).since == 4.6


def test_while_the_stream_is_not_fresh_an_event_still_overtakes_answers_and_refuses() -> None:
    told = Told()
    told.at = 5.0
    told.event(f"{OWN}grants-changed", ALICE, second=5)
    assert told.rule(token()).since == 5.0
    told.event(f"{CAEP}session-revoked", SESSION, second=5)
    assert told.refused(token())


def test_a_token_expires_by_the_clock_of_the_database() -> None:
    told = Told()
    told.later(100)
    assert told.counts(token(0, lives=101))
    assert told.refused(token(0, lives=100))


def test_while_the_stream_is_not_fresh_scopegate_judges_expiry() -> None:
    told = Told()
    told.at = 100.0
    assert not told.refused(token(0, lives=100))


def test_the_bound_is_never_more_than_scopegates_own() -> None:
    assert Told(bound=2000).knowledge.freshness.bound == 2.0
    assert Told(bound=60_000).knowledge.freshness.bound == 5.0


def test_a_ruling_holds_until_freshness_the_token_or_its_keys_end() -> None:
    told = Told()
    told.later(10)
    assert told.rule(token()).until == pytest.approx(15.0), "the bound, after the last beat"
    assert told.rule(token(lives=22)).until == pytest.approx(12.0)
    told.event(f"{OWN}keys-changed", {"format": "opaque", "id": ISSUER})
    told.later(2)
    assert told.rule(token(), keys_fetched=11.0).until == pytest.approx(15.0)
    told.later(2)
    assert told.rule(token(), keys_fetched=13.0).until == pytest.approx(15.0)
    assert told.rule(token(), keys_fetched=15.0).until == pytest.approx(19.0)


@pytest.mark.parametrize("heard", ["hello", "event", "everything"])
def test_all_that_is_heard_but_beats_has_rulings_made_anew(heard: str) -> None:
    told = Told()
    before = told.knowledge.version
    told.beat()
    assert told.knowledge.version == before
    if heard == "hello":
        told.hello(complete_since=0.0)
    elif heard == "event":
        told.event(f"{OWN}grants-changed", ALICE)
    else:
        told.knowledge.everything(told.at)
    assert told.knowledge.version > before


def test_after_the_keys_changed_a_token_verified_by_older_ones_must_be_introspected() -> None:
    told = Told()
    told.later(10)
    told.event(f"{OWN}keys-changed", {"format": "opaque", "id": ISSUER})
    ruling = told.rule(token(), keys_fetched=9.9)
    assert not ruling.by_itself
    assert ruling.since == 10.0
    assert told.rule(token(), keys_fetched=10.0).by_itself


def test_after_the_keys_changed_they_are_fetched_at_once_and_again_a_bound_later() -> None:
    told = Told()
    told.later(10)
    told.event(f"{OWN}keys-changed", {"format": "opaque", "id": ISSUER})
    assert told.knowledge.keys_since(10.0) == 10.0
    assert told.knowledge.keys_since(14.9) == 10.0
    assert told.knowledge.keys_since(15.0) == 15.0
    assert told.knowledge.keys_since(99.0) == 15.0


@pytest.mark.parametrize("limit", ["MAX_TOUCHED", "MAX_AGE"])
def test_what_events_touched_is_bounded_and_nothing_that_is_forgotten_counts_by_itself(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(rules, limit, 10)
    told = Told()
    for second in range(100):
        told.event(f"{CAEP}session-revoked", ALICE | {"sub": f"user-{second}"}, second)
        told.later(1)
    assert len(told.knowledge._touched) <= 11
    forgotten = [token(second - 1, sub=f"user-{second}") for second in range(80)]
    assert [each for each in forgotten if told.counts(each)] == []
    # Nor does what was answered before the event.
    for second, each in enumerate(forgotten):
        assert told.refused(each) or told.rule(each).since >= second
    kept = [token(second - 1, sub=f"user-{second}") for second in range(92, 100)]
    assert all(map(told.refused, kept))
    assert told.counts(token(95, sub="user-80"))
