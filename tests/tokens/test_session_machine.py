"""The life of sessions, against a model: any order of events keeps the promises."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import httpx2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.access.grants import grant, revoke
from app.identity.account_writes import disable_user, enable_user
from app.runtime import Runtime
from tests.conftest import client_of, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, Someone, login, make_user

SCOPES = ["read:items", "write:items", "read:users"]
GRACE = 60.0
IDLE = 14 * 86400.0

T = TypeVar("T")


@dataclass
class Login:
    """What the model knows of a session."""

    scopes: set[str]
    refresh_tokens: list[str]
    access_token: str
    used_at: float
    rotated_at: float = 0.0
    ended: bool = False
    narrowed: set[str] = field(default_factory=set)


class SessionMachine(RuleBasedStateMachine):
    """One user with many sessions; the service's answers must be the model's."""

    runner: ClassVar[asyncio.Runner]
    runtime: ClassVar[Runtime]
    clock: ClassVar[MovableClock]
    client: ClassVar[httpx2.AsyncClient]

    def __init__(self) -> None:
        super().__init__()
        self.user: Someone = self.wait(make_user(self.runtime, *SCOPES))
        self.granted = set(SCOPES)
        self.disabled = False
        self.time = 0.0
        self.logins: list[Login] = []

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def live(self, session: Login) -> bool:
        return not (session.ended or self.disabled or self.time - session.used_at >= IDLE)

    def refresh(self, token: str) -> httpx2.Response:
        data = {"grant_type": "refresh_token", "refresh_token": token}
        return self.wait(self.client.post("/token", data=data))

    def took_over(self, session: Login, answer: httpx2.Response) -> None:
        assert answer.status_code == 200, answer.text
        pair = answer.json()
        issued = set(pair["scope"].split())
        assert issued <= session.scopes, "more than at login"
        assert issued <= self.granted, "more than is granted now"
        session.access_token, session.narrowed = pair["access_token"], issued
        session.used_at = self.time

    @rule(asked=st.sets(st.sampled_from(SCOPES)))
    def sign_in(self, asked: set[str]) -> None:
        form = {"scope": " ".join(sorted(asked))} if asked else {}
        answer = self.wait(login(self.client, self.user, **form))
        expected = (asked or set(SCOPES)) & self.granted
        if self.disabled or (asked and not expected):
            assert answer.status_code == 400
            return
        pair = answer.json()
        assert set(pair["scope"].split()) == expected
        self.logins.append(
            Login(
                expected,
                [pair["refresh_token"]],
                pair["access_token"],
                self.time,
                narrowed=set(expected),
            )
        )

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), lost=st.booleans())
    def refresh_honestly(self, data: st.DataObject, lost: bool) -> None:
        session = data.draw(st.sampled_from(self.logins))
        token = session.refresh_tokens[-1]
        answer = self.refresh(token)
        if not self.live(session):
            assert answer.status_code == 400
            return
        self.took_over(session, answer)
        session.rotated_at = self.time
        successor = answer.json()["refresh_token"]
        session.refresh_tokens.append(successor)
        if lost:
            again = self.refresh(token)
            self.took_over(session, again)
            assert again.json()["refresh_token"] == successor, "one successor, however often"

    @precondition(lambda self: any(len(each.refresh_tokens) > 1 for each in self.logins))
    @rule(data=st.data())
    def replay_an_older_token(self, data: st.DataObject) -> None:
        used = [each for each in self.logins if len(each.refresh_tokens) > 1]
        session = data.draw(st.sampled_from(used))
        back = data.draw(st.integers(2, len(session.refresh_tokens)))
        answer = self.refresh(session.refresh_tokens[-back])
        if self.live(session) and back == 2 and self.time - session.rotated_at < GRACE:
            self.took_over(session, answer)
            assert answer.json()["refresh_token"] == session.refresh_tokens[-1]
            return
        assert answer.status_code == 400
        session.ended = session.ended or self.live(session)

    @precondition(lambda self: self.logins)
    @rule(data=st.data(), by_refresh_token=st.booleans())
    def sign_out(self, data: st.DataObject, by_refresh_token: bool) -> None:
        session = data.draw(st.sampled_from(self.logins))
        old = data.draw(st.sampled_from(session.refresh_tokens))
        token = old if by_refresh_token else session.access_token
        answer = self.wait(self.client.post("/revoke", data={"token": token}))
        assert answer.status_code == 200
        session.ended = True

    @rule(scope=st.sampled_from(SCOPES), held=st.booleans())
    def change_grant(self, scope: str, held: bool) -> None:
        async def change() -> None:
            async with self.runtime.work(OPERATOR) as work:
                change = grant if held else revoke
                await change(work, self.user.id, scope)

        self.wait(change())
        (self.granted.add if held else self.granted.discard)(scope)

    @rule(disabled=st.booleans())
    def change_user(self, disabled: bool) -> None:
        async def change() -> None:
            async with self.runtime.work(OPERATOR) as work:
                if disabled:
                    await disable_user(work, self.user.id)
                else:
                    await enable_user(work, self.user.id)

        self.wait(change())
        self.disabled = disabled
        if disabled:
            for session in self.logins:
                session.ended = True

    @rule(seconds=st.sampled_from([25, 100, 1000, 8 * 86400]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.move(seconds=seconds)
        self.time += seconds

    @invariant()
    def an_ended_session_gives_nothing_and_scopes_never_exceed_granted_now(self) -> None:
        for session in self.logins[-3:]:
            headers = {"Authorization": f"Bearer {session.access_token}"}
            answer = self.wait(self.client.get("/users/me", headers=headers))
            if not self.live(session):
                assert answer.status_code == 401
            elif answer.status_code == 200:
                assert set(answer.json()["scopes"]) == session.narrowed & self.granted
            else:
                assert self.time - session.used_at >= 900, "refused before it expired"


@pytest.mark.long
@pytest.mark.parametrize("access_token_format", ["jwt", "opaque"])
async def test_any_order_of_events_keeps_the_promises_of_sessions(
    own_database_url: str, access_token_format: str
) -> None:
    def explore() -> None:
        # A thread and a loop of its own: hypothesis' machines are not async.
        with asyncio.Runner() as runner:
            clock = MovableClock()
            opened = Runtime.open(
                settings_for(own_database_url, access_token_format=access_token_format), now=clock
            )
            runtime = runner.run(opened.__aenter__())

            class Machine(SessionMachine):
                pass

            Machine.runner, Machine.runtime, Machine.clock = runner, runtime, clock
            Machine.client = client_of(runtime)
            try:
                run_state_machine_as_test(
                    Machine,
                    settings=settings(max_examples=30, stateful_step_count=25, deadline=None),
                )
            finally:
                runner.run(opened.__aexit__(None, None, None))

    await asyncio.to_thread(explore)
