"""Checking tokens: what needs a call, what does not, and what happens when Scopegate is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from client.tests.stand_in import CAEP, DAY, OWN, StandIn, following, until
from scopegate_client import InvalidToken, Scopegate, Unavailable, checking
from scopegate_client.freshness import Freshness


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with StandIn().serving() as serving:
        yield serving


async def heard(stand_in: StandIn, scopegate: Scopegate, kind: str, token: str) -> None:
    """Have something happen to the user of a token, and wait until it is heard."""
    before = scopegate.state.events
    stand_in.event(kind, stand_in.user(token))
    await until(lambda: scopegate.state.events > before)


async def refused(scopegate: Scopegate, token: str) -> bool:
    before = scopegate.state.refused
    try:
        await scopegate.check(token)
    except InvalidToken:
        assert scopegate.state.refused == before + 1
        return True
    assert scopegate.state.refused == before
    return False


async def test_a_principal_has_what_the_token_says(stand_in: StandIn) -> None:
    async with following(stand_in) as scopegate:
        said = stand_in.claims("read:orders write:orders", client_id="console")
        principal = await scopegate.check(stand_in.token(**said))
    assert principal.subject == said["sub"]
    assert principal.scopes == {"read:orders", "write:orders"}
    assert principal.client_id == "console"
    assert principal.session_id == said["sid"]
    assert principal.issued_at.timestamp() == said["iat"]
    assert principal.expires_at.timestamp() == said["exp"]
    assert principal.claims == said


async def test_while_fresh_a_thousand_requests_of_many_tokens_ask_scopegate_nothing(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        tokens = [stand_in.token() for _ in range(50)]
        for token in tokens * 20:
            await scopegate.check(token)
        assert scopegate.state.introspections == 0
        assert stand_in.asked == ["/token", "/events", "/.well-known/jwks.json"]


async def test_a_token_of_an_ended_session_is_refused_without_a_call(stand_in: StandIn) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.token()
        assert not await refused(scopegate, token)
        stand_in.end_session(token)
        await until(lambda: scopegate.state.events)
        assert await refused(scopegate, token)
        assert scopegate.state.introspections == 0


async def test_after_its_grants_changed_a_token_is_introspected_once_and_the_answer_counts(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.token("read:orders write:orders")
        await scopegate.check(token)
        stand_in.answers[token]["scope"] = "read:orders"
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        for _ in range(5):
            principal = await scopegate.check(token)
            assert principal.scopes == {"read:orders"}
            assert principal.claims["scope"] == "read:orders write:orders"
        assert scopegate.state.introspections == 1
        stand_in.answers[token] = {"active": False, "sub": stand_in.answers[token]["sub"]}
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        for _ in range(5):
            assert await refused(scopegate, token)
        assert scopegate.state.introspections == 2


async def test_introspection_never_adds_a_scope_that_the_token_lacks(stand_in: StandIn) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.token("read:orders")
        stand_in.answers[token]["scope"] = "read:orders admin"
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        assert (await scopegate.check(token)).scopes == {"read:orders"}


async def test_the_exp_of_an_introspection_is_heeded(stand_in: StandIn) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.token()
        ends = stand_in.second() + 2
        stand_in.answers[token]["exp"] = ends
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        principal = await scopegate.check(token)
        assert principal.expires_at.timestamp() == ends
        await until(lambda: stand_in.second() >= ends)
        assert await refused(scopegate, token)
        assert scopegate.state.introspections == 1


async def test_an_opaque_token_is_introspected_once_and_forgotten_by_the_same_events(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.opaque()
        said = dict(stand_in.answers[token])
        for _ in range(3):
            principal = await scopegate.check(token)
        assert principal.subject == said["sub"]
        assert principal.scopes == {"read:orders"}
        assert scopegate.state.introspections == 1
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        for _ in range(3):
            await scopegate.check(token)
        assert scopegate.state.introspections == 2
        stand_in.event(f"{OWN}token-revoked", {"format": "opaque", "id": said["jti"]})
        stand_in.answers[token] = {"active": False}
        await until(lambda: scopegate.state.events == 2)
        for _ in range(3):
            assert await refused(scopegate, token)
        assert scopegate.state.introspections == 3


async def test_an_opaque_token_of_an_ended_session_is_refused_without_a_call(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.opaque()
        await scopegate.check(token)
        stand_in.end_session(token)
        await until(lambda: scopegate.state.events)
        assert await refused(scopegate, token)
        assert scopegate.state.introspections == 1


@pytest.mark.parametrize(
    "said",
    [
        {"active": False},
        {"active": "true"},
        {"token_type": "refresh_token"},
        {"aud": "https://another.example"},
        {"iss": "https://another.example"},
    ],
    ids=str,
)
async def test_an_opaque_token_that_is_not_good_here_is_refused(
    stand_in: StandIn, said: dict[str, object]
) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.opaque()
        stand_in.answers[token] |= said
        assert await refused(scopegate, token)


@pytest.mark.parametrize("missing", ["sid", "sub", "jti", "exp", "iat", "scope", "aud", "active"])
async def test_an_answer_that_cant_be_understood_is_no_pass(
    stand_in: StandIn, missing: str
) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.opaque()
        del stand_in.answers[token][missing]
        with pytest.raises(Unavailable):
            await scopegate.check(token)


async def test_an_answer_that_an_event_overtook_is_not_kept(stand_in: StandIn) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.token()
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        stand_in.held.clear()
        asking = asyncio.create_task(scopegate.check(token))
        await until(lambda: stand_in.count("/introspect"))
        # The answer is computed, and then the grant is taken away.
        stand_in.answers[token] = stand_in.answers[token] | {"scope": ""}
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        stand_in.held.set()
        assert (await asking).scopes == {"read:orders"}, "it was true during this request"
        assert (await scopegate.check(token)).scopes == set()
        assert scopegate.state.introspections == 2


async def test_a_session_that_ends_while_its_token_is_introspected_is_refused(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.token()
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        stand_in.held.clear()
        asking = asyncio.create_task(scopegate.check(token))
        await until(lambda: stand_in.count("/introspect"))
        stand_in.end_session(token)
        await until(lambda: scopegate.state.events == 2)
        stand_in.held.set()
        with pytest.raises(InvalidToken):
            await asking


async def test_requests_at_once_share_one_introspection_and_one_that_goes_disturbs_none(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        token = stand_in.opaque()
        stand_in.held.clear()
        asking = [asyncio.create_task(scopegate.check(token)) for _ in range(20)]
        await until(lambda: stand_in.count("/introspect"))
        asking[0].cancel()
        stand_in.held.set()
        done = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert all(each.scopes == {"read:orders"} for each in done[1:])  # type: ignore[union-attr]
        assert scopegate.state.introspections == 1


async def test_without_a_fresh_stream_tokens_are_introspected_and_answers_count_for_a_second(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Freshness, "fresh", lambda *_: False)
    scopegate = stand_in.client()
    async with scopegate.lifespan():
        token = stand_in.token()
        began, times = time.monotonic(), 0
        while stand_in.count("/introspect") < 3:
            assert not await refused(scopegate, token)
            times += 1
        assert time.monotonic() - began >= 2.0, "each answer counted for a second"
        assert times > 10
        stand_in.answers[token] = {"active": False}
        async with asyncio.timeout(30):
            while not await refused(scopegate, token):
                pass


@pytest.mark.parametrize("status", [0, 500, 503, 401, 403, 200])
async def test_without_a_stream_and_without_introspection_nothing_passes(
    stand_in: StandIn, status: int
) -> None:
    stand_in.statuses["/events"] = 503
    scopegate = stand_in.client()
    async with scopegate.lifespan():
        token = stand_in.token()
        await scopegate.check(token)
        stand_in.statuses["/introspect"] = status
        if status == 200:
            stand_in.held.clear()  # No answer comes.
        async with asyncio.timeout(30):
            while await passes(scopegate, token):
                await asyncio.sleep(0.01)


async def test_an_answer_that_is_as_old_as_the_bound_when_it_comes_is_no_pass(
    stand_in: StandIn,
) -> None:
    stand_in.statuses["/events"] = 503
    scopegate = stand_in.client(bound=0.5)
    async with scopegate.lifespan():
        stand_in.held.clear()
        asyncio.get_running_loop().call_later(0.6, stand_in.held.set)
        with pytest.raises(Unavailable):
            await scopegate.check(stand_in.token())


async def test_while_fresh_a_token_that_must_be_introspected_and_cant_be_is_no_pass(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        token, another = stand_in.token(), stand_in.token()
        await scopegate.check(token)
        stand_in.statuses["/introspect"] = 503
        await heard(stand_in, scopegate, f"{OWN}grants-changed", token)
        with pytest.raises(Unavailable):
            await scopegate.check(token)
        await scopegate.check(another)
        del stand_in.statuses["/introspect"]
        await scopegate.check(token)


async def test_it_is_logged_once_that_introspection_fails_and_that_it_works_again(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(stand_in) as scopegate:
        tokens = [stand_in.opaque() for _ in range(3)]
        stand_in.statuses["/introspect"] = 403
        for token in tokens:
            with pytest.raises(Unavailable):
                await scopegate.check(token)
        del stand_in.statuses["/introspect"]
        for token in tokens:
            await scopegate.check(token)
    lines = [each.getMessage() for each in caplog.records if "introspection" in each.getMessage()]
    assert len(lines) == 2
    assert "403" in lines[0]
    assert all(token not in caplog.text for token in tokens)


async def test_tokens_are_remembered_by_a_digest_and_only_so_many(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "REMEMBERED", 10)
    async with following(stand_in) as scopegate:
        tokens = [stand_in.opaque() for _ in range(30)]
        for token in tokens:
            await scopegate.check(token)
        checker = scopegate._checker
        assert checker
        assert len(checker._tokens) == 10
        assert all(token not in repr(checker._tokens) for token in tokens)
        await scopegate.check(tokens[-1])
        assert scopegate.state.introspections == 30
        await scopegate.check(tokens[0])
        assert scopegate.state.introspections == 31


async def test_what_is_no_token_is_refused_without_a_call_and_not_remembered(
    stand_in: StandIn,
) -> None:
    async with following(stand_in) as scopegate:
        for garbage in ("a.b.c", "..", "é.b.c", "\ud800.b.c", "x" * 9000, "", "a b", "a.b.c\n"):
            assert await refused(scopegate, garbage), garbage
        checker = scopegate._checker
        assert checker
        assert len(checker._tokens) == 0
        assert scopegate.state.introspections == 0


@pytest.mark.parametrize("ahead", [DAY, -DAY])
async def test_the_clock_of_this_machine_does_not_matter(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The database's clock is a day away; and this machine's clock jumps too."""
    stand_in.ahead = ahead
    async with following(stand_in) as scopegate:
        now = time.time()
        tokens = [stand_in.token(iat=stand_in.second() - 10) for _ in range(3)]
        expired = stand_in.token(iat=stand_in.second() - 1000, exp=stand_in.second() - 100)
        for token, moved in zip(tokens, (-1e6, 0.0, 1e6), strict=True):
            with monkeypatch.context() as moving:
                moving.setattr("time.time", lambda: now + moved)  # noqa: B023
                assert not await refused(scopegate, token)
                assert await refused(scopegate, expired)
                assert scopegate.state.fresh


async def test_events_of_all_kinds_are_heard_while_many_requests_run(stand_in: StandIn) -> None:
    async with following(stand_in) as scopegate:
        tokens = [stand_in.token(iat=stand_in.second() - 5) for _ in range(30)]
        ended = set(tokens[::3])
        stop = asyncio.Event()

        async def use(token: str) -> None:
            with suppress(InvalidToken):
                while not stop.is_set():
                    await scopegate.check(token)
                    await asyncio.sleep(0)

        users = [asyncio.create_task(use(token)) for token in tokens]
        for token in sorted(ended):
            stand_in.event(f"{CAEP}session-revoked", stand_in.user(token))
            await asyncio.sleep(0)
        await until(lambda: all(users[tokens.index(token)].done() for token in ended))
        stop.set()
        await asyncio.gather(*users)
        assert {token for token in tokens if await refused(scopegate, token)} == ended
        assert scopegate.state.introspections == 0


async def passes(scopegate: Scopegate, token: str) -> bool:
    """Return False where the token can't be judged. It is never refused."""
    try:
        await scopegate.check(token)
    except Unavailable:
        return False
    return True


async def test_without_its_lifespan_a_client_says_so_instead_of_letting_pass(
    stand_in: StandIn,
) -> None:
    scopegate = stand_in.client()
    token = stand_in.token()
    with pytest.raises(RuntimeError, match="lifespan"):
        await scopegate.check(token)
    async with scopegate.lifespan():
        await scopegate.check(token)
    with pytest.raises(RuntimeError, match="lifespan"):
        await scopegate.check(token)
    assert not scopegate.state.connected


async def test_nothing_of_an_earlier_lifespan_is_relied_on(stand_in: StandIn) -> None:
    stand_in.complete_since = 0
    scopegate, token = stand_in.client(), stand_in.token()
    async with scopegate.lifespan():
        await until(lambda: scopegate.state.fresh)
        await scopegate.check(token)
    stand_in.end_session(token)
    stand_in.complete_since = None
    async with scopegate.lifespan():
        await until(lambda: scopegate.state.fresh)
        assert await refused(scopegate, token)


def test_from_env_reads_five_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOPEGATE_ISSUER", "https://auth.example")
    monkeypatch.setenv("SCOPEGATE_CLIENT_ID", "orders")
    with pytest.raises(KeyError, match="SCOPEGATE_CLIENT_SECRET"):
        Scopegate.from_env()
    monkeypatch.setenv("SCOPEGATE_CLIENT_SECRET", "s")
    for name in ("SCOPEGATE_AUDIENCE", "SCOPEGATE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert Scopegate.from_env().audience == "https://auth.example"
    assert Scopegate.from_env().url == "https://auth.example"
    monkeypatch.setenv("SCOPEGATE_AUDIENCE", "https://api.example")
    assert Scopegate.from_env().audience == "https://api.example"
    monkeypatch.setenv("SCOPEGATE_URL", "http://scopegate:8000")
    assert Scopegate.from_env().url == "http://scopegate:8000"
    assert Scopegate.from_env().issuer == "https://auth.example"


async def test_scopegate_may_be_reached_elsewhere_and_tokens_still_name_the_issuer(
    stand_in: StandIn,
) -> None:
    url, stand_in.issuer = stand_in.issuer, "https://auth.example"
    stand_in.complete_since = 0
    scopegate = stand_in.client(url=url)
    async with scopegate.lifespan():
        await until(lambda: scopegate.state.fresh)
        await scopegate.check(stand_in.token())
        await scopegate.check(stand_in.opaque())
        assert await refused(scopegate, stand_in.token(iss=url))
    asked = {"/token", "/events", "/.well-known/jwks.json", "/introspect"}
    assert set(stand_in.asked) == asked
