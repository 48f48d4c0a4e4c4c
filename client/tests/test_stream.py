"""The stream over real connections: how it is opened, kept, left and opened anew."""

import asyncio
import logging
import secrets

import pytest

from client.tests.stand_in import CAEP, OWN, StandIn, following, until
from scopegate_client import InvalidToken, stream


@pytest.fixture
async def stand_in() -> StandIn:
    return StandIn()


async def test_the_stream_is_asked_for_with_a_token_of_ones_own_and_a_nonce(
    stand_in: StandIn,
) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        assert stand_in.asked[:2] == ["/token", "/events"]
        token, events = stand_in.headers[:2]
        assert token["authorization"].startswith("Basic ")
        assert events["authorization"] == "Bearer own-1"
        assert events["accept"] == "text/event-stream"
        assert "scopegate-through" not in events
        assert scopegate.state.connected


async def test_a_stream_that_is_cut_is_resumed_where_it_ended_and_nothing_is_missed(
    stand_in: StandIn,
) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        token = stand_in.token()
        await scopegate.check(token)
        stand_in.silent = True
        cut = stand_in.streams.pop()
        stand_in.end_session(token)
        cut.cut()
        stand_in.streams.append(cut)
        await until(lambda: scopegate.state.events)
        assert "scopegate-through" in stand_in.streams[-1].headers
        assert stand_in.streams[-1].headers["scopegate-nonce"] != cut.headers["scopegate-nonce"]
        with pytest.raises(InvalidToken):
            await scopegate.check(token)
        assert stand_in.count("/introspect") == 0
        assert stand_in.count("/token") == 1, "the token of one's own is kept"


async def test_a_stream_that_cant_resume_has_older_tokens_introspected_once(
    stand_in: StandIn,
) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        token = stand_in.token(iat=stand_in.second() - 5)
        await scopegate.check(token)
        stand_in.resumes, stand_in.complete_since = False, None
        (first,) = stand_in.streams
        first.cut()
        await until(lambda: stand_in.streams and stand_in.streams != [first])
        await until(lambda: scopegate.state.connected)
        for _ in range(3):
            await scopegate.check(token)
        assert stand_in.count("/introspect") == 1


async def test_the_next_stream_is_open_before_a_draining_one_is_left(stand_in: StandIn) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        (draining,) = stand_in.streams
        stand_in.statuses["/events"] = 503
        draining.send("bye", {"reason": "draining"})
        await until(lambda: stand_in.count("/events") > 1)
        token = stand_in.token()
        stand_in.end_session(token)
        await until(lambda: scopegate.state.events == 1)
        assert scopegate.state.connected, "the draining stream is followed until then"
        assert stand_in.streams == [draining]
        del stand_in.statuses["/events"]
        await until(lambda: draining not in stand_in.streams)
        assert len(stand_in.streams) == 1
        assert scopegate.state.fresh


async def test_the_token_of_ones_own_is_renewed_before_it_expires_and_the_stream_with_it(
    stand_in: StandIn,
) -> None:
    stand_in.token_lifetime = 2.0
    async with stand_in.serving(), following(stand_in) as scopegate:
        (first,) = stand_in.streams
        await until(lambda: first not in stand_in.streams)
        (second,) = stand_in.streams
        assert first.headers["authorization"] == "Bearer own-1"
        assert second.headers["authorization"] == "Bearer own-2"
        assert scopegate.state.fresh


@pytest.mark.parametrize("reason", ["expired", "revoked"])
async def test_a_stream_that_ends_with_its_token_is_opened_with_a_new_one(
    stand_in: StandIn, reason: str
) -> None:
    async with stand_in.serving(), following(stand_in):
        stand_in.streams[0].send("bye", {"reason": reason})
        await until(lambda: stand_in.count("/events") == 2)
        assert stand_in.count("/token") == 2


async def test_a_token_of_ones_own_that_is_refused_is_replaced(stand_in: StandIn) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        stand_in.statuses["/events"] = 401
        stand_in.streams[0].cut()
        await until(lambda: stand_in.count("/token") == 2)
        del stand_in.statuses["/events"]
        await until(lambda: stand_in.streams and scopegate.state.connected)


@pytest.mark.parametrize(
    "said",
    [
        {"nonce": "of another request"},
        {"nonce": None},
        {"iss": "https://auth.example/"},
        {"now": "1"},
        {"complete_since": True},
        {"bound": None},
    ],
    ids=str,
)
async def test_a_stream_whose_hello_cant_be_trusted_is_not_used(
    stand_in: StandIn, said: dict[str, object]
) -> None:
    stand_in.hello = said
    async with stand_in.serving():
        scopegate = stand_in.client()
        async with scopegate.lifespan():
            token = stand_in.token()
            await until(lambda: stand_in.streams or stand_in.count("/events") > 1)
            for count in (1, 2):
                await scopegate.check(token)
                await until(lambda: not stand_in.streams or not scopegate.state.connected)
                assert stand_in.count("/introspect") in {1, count}
            assert not scopegate.state.fresh


async def test_a_newer_version_of_the_stream_is_not_tried_again_and_again(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def note(_: int, *, at_least: float) -> float:
        pauses.append(at_least)
        return at_least

    monkeypatch.setattr(stream, "pause", note)
    stand_in.hello = {"v": 2, "now": "in another form"}
    async with stand_in.serving():
        scopegate = stand_in.client()
        async with scopegate.lifespan():
            await until(lambda: "too new" in caplog.text)
            assert (await scopegate.check(stand_in.token())).scopes == {"read:orders"}
        assert stand_in.count("/introspect") == 1
        assert stand_in.count("/events") == 1
    assert pauses == [60.0]


async def test_an_unknown_frame_and_unknown_members_are_ignored(stand_in: StandIn) -> None:
    stand_in.hello = {"new": {"member": 1}}
    async with stand_in.serving(), following(stand_in) as scopegate:
        stand_in.streams[0].send("news", {"of": "a later version"})
        stand_in.streams[0].raw(b": a comment\n\nid: 7\nretry: 1\n\n")
        token = stand_in.token()
        stand_in.end_session(token)
        await until(lambda: scopegate.state.events == 1)
        assert stand_in.count("/events") == 1


@pytest.mark.parametrize("data", ["no JSON", "[]", "null", "[" * 100_000], ids=len)
async def test_an_event_that_cant_be_read_has_all_tokens_introspected(
    stand_in: StandIn, data: str
) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        token = stand_in.token()
        await scopegate.check(token)
        stand_in.streams[0].raw(f"event: set\ndata: {data}\n\n".encode())
        await until(lambda: scopegate.state.events == 1)
        await scopegate.check(token)
        assert stand_in.count("/introspect") == 1
        assert stand_in.count("/events") == 1


async def test_after_everything_each_token_is_introspected_once(stand_in: StandIn) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        tokens = [stand_in.token() for _ in range(3)]
        for token in tokens:
            await scopegate.check(token)
        stand_in.streams[0].send("everything", {})
        sent = stand_in.now()
        await until(lambda: (scopegate._knowledge.through or 0) > sent)
        for token in tokens * 2:
            await scopegate.check(token)
        assert stand_in.count("/introspect") == 3


async def test_a_second_hello_ends_the_stream(stand_in: StandIn) -> None:
    async with stand_in.serving(), following(stand_in):
        (first,) = stand_in.streams
        first.send("hello", {"v": 1})
        await until(lambda: stand_in.count("/events") == 2)


@pytest.mark.parametrize("still", ["swallowed", "held back"])
async def test_a_stream_whose_beats_prove_nothing_in_time_is_replaced(
    stand_in: StandIn, still: str
) -> None:
    """Half open: the connection stands, and what comes, if anything, is of the past."""
    stand_in.bound = 500
    async with stand_in.serving(), following(stand_in) as scopegate:
        (half_open,) = stand_in.streams
        half_open.silent = True
        then = stand_in.now()
        async with asyncio.TaskGroup() as group:
            if still == "held back":
                beating = group.create_task(repeat(half_open.send, "beat", {"through": then}))
            await until(lambda: half_open not in stand_in.streams)
            await until(lambda: scopegate.state.fresh)
            if still == "held back":
                beating.cancel()


async def repeat(send: object, *arguments: object) -> None:
    assert callable(send)
    while True:
        send(*arguments)
        await asyncio.sleep(0.01)


async def test_a_proxy_that_repeats_an_old_stream_is_not_believed(stand_in: StandIn) -> None:
    """Byte for byte what another request was answered: its hello names another nonce."""
    stand_in.hello = {"nonce": secrets.token_urlsafe(16)}
    async with stand_in.serving():
        scopegate = stand_in.client()
        async with scopegate.lifespan():
            await until(lambda: stand_in.count("/events") > 2)
            assert not scopegate.state.fresh
            assert not scopegate.state.connected


def test_pauses_between_attempts_are_doubled_jittered_and_bounded() -> None:
    for failures, seconds in ((1, 0.1), (2, 0.2), (3, 0.4), (7, 5.0), (1000, 5.0)):
        pauses = {stream.pause(failures, at_least=0.0) for _ in range(100)}
        assert all(seconds <= each <= seconds * 1.5 for each in pauses)
        assert len(pauses) > 90


async def test_a_stream_that_ends_before_it_has_proven_anything_counts_as_a_failure(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def note(failures: int, *, at_least: float) -> float:
        counted.append(failures)
        return at_least

    monkeypatch.setattr(stream, "pause", note)
    async with stand_in.serving(), following(stand_in) as scopegate:
        stand_in.silent = True
        for number in range(3):
            await until(lambda: stand_in.streams)
            stand_in.streams[0].send("bye", {"reason": "lost"})
            await until(lambda number=number: len(counted) > number)  # type: ignore[misc]
        stand_in.silent = False
        before = scopegate.state.lag
        await until(lambda: stand_in.streams)
        await until(lambda: scopegate.state.lag and before and scopegate.state.lag < before)
        stand_in.streams[0].cut()
        await until(lambda: len(counted) > 3)
    assert counted == [1, 2, 3, 1]


async def test_a_refused_stream_is_not_asked_for_before_scopegate_says(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[float] = []
    found: list[float] = []

    def note(_: int, *, at_least: float) -> float:
        asked_for.append(at_least)
        return 0.0

    monkeypatch.setattr(stream, "pause", note)
    stand_in.statuses["/events"] = 503
    async with stand_in.serving(), stand_in.client().lifespan():
        for retry_after in ("2", "86400", "no number", "-1", "1.5"):
            stand_in.retry_after = retry_after
            # The last answer before this may have been under way.
            asked_for.clear()
            await until(lambda: len(asked_for) > 2)
            found.append(asked_for[-1])
    assert found == [2.0, 60.0, 0.0, 0.0, 0.0]


async def test_the_log_has_one_line_when_the_state_changes(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="scopegate_client")
    stand_in.bound = 500

    def lines() -> list[str]:
        return [each.message for each in caplog.records if each.name == "scopegate_client"]

    async with stand_in.serving(), following(stand_in) as scopegate:
        stand_in.silent = True
        stand_in.statuses["/events"] = 503
        await until(lambda: any("not fresh" in line for line in lines()))
        assert not scopegate.state.fresh
        await until(lambda: stand_in.count("/events") > 3)
        stand_in.silent = False
        del stand_in.statuses["/events"]
        await until(lambda: scopegate.state.fresh)
        await until(lambda: len(lines()) > 2)
    assert [line.partition(":")[0] for line in lines()] == ["fresh", "not fresh", "fresh"]
    assert "own-1" not in caplog.text
    assert "secret" not in caplog.text


async def test_the_log_says_why_no_stream_can_be_had(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in.statuses["/token"] = 400
    async with stand_in.serving(), stand_in.client().lifespan():
        await until(lambda: "read:events" in caplog.text)


async def test_an_event_comes_within_the_same_connection_as_its_beats(stand_in: StandIn) -> None:
    async with stand_in.serving(), following(stand_in) as scopegate:
        token = stand_in.token(iat=stand_in.second() - 5)
        await scopegate.check(token)
        stand_in.event(f"{OWN}grants-changed", stand_in.user(token))
        await until(lambda: scopegate.state.events == 1)
        await scopegate.check(token)
        stand_in.event(f"{CAEP}session-revoked", stand_in.user(token))
        await until(lambda: scopegate.state.events == 2)
        with pytest.raises(InvalidToken):
            await scopegate.check(token)
        assert stand_in.asked.count("/introspect") == 1
