"""Clients, consents, codes and sessions, against a model: in any order of events, no token has more
than asked ∩ consented ∩ the ceiling ∩ granted now, and none outlives what it rests on."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

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

from app.access.client_registry import change_client, delete_client
from app.access.consents import ApplicationNotFound, withdraw_consent
from app.access.grants import grant, revoke
from app.identity.account_writes import disable_user, enable_user
from app.runtime import Runtime
from tests.conftest import settings_for
from tests.support.browsing import Application, PersonsBrowser, answered, register
from tests.support.factories import OPERATOR, Someone, make_user

SCOPES = ["read:items", "write:items", "read:users"]
some_scopes = st.sets(st.sampled_from(SCOPES))
T = TypeVar("T")


@dataclass
class Code:
    """What the model knows of a code."""

    application: Application
    code: str
    scopes: set[str]
    rests_on: int
    """The number of the consent."""
    in_browser: int
    """The number of the browser's session."""
    gave: "Login | None" = None


@dataclass
class Login:
    """What the model knows of a session that a code gave."""

    application: Application
    scopes: set[str]
    tokens: dict[str, Any]
    rests_on: int
    ended: bool = False


class ConsentMachine(RuleBasedStateMachine):
    """One person, one browser, one client; the service's answers must be the model's."""

    runner: ClassVar[asyncio.Runner]
    runtime: ClassVar[Runtime]
    numbers: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.user: Someone = self.wait(make_user(self.runtime, *SCOPES))
        self.browser = PersonsBrowser.of(self.runtime)
        ConsentMachine.numbers += 1
        self.client_id = f"app-{ConsentMachine.numbers}"
        self.granted = set(SCOPES)
        self.ceiling = set(SCOPES)
        self.consented: set[str] | None = None
        self.consent = self.session = 0
        self.signed_in = self.disabled = self.deleted = False
        self.codes: list[Code] = []
        self.logins: list[Login] = []
        self.register()
        self.sign_in()

    def teardown(self) -> None:
        self.wait(self.browser.client.aclose())

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def _by_operator(self, change: Any, *arguments: Any) -> None:
        async with self.runtime.work(OPERATOR) as work:
            await change(work, *arguments)

    def register(self) -> None:
        self.wait(register(self.runtime, self.client_id, scopes=sorted(self.ceiling)))

    def withdrawn(self) -> None:
        """Sessions and codes that rest on the consent are none any more."""
        self.consent, self.consented = self.consent + 1, None

    def end_all(self) -> None:
        for login in self.logins:
            login.ended = True
        self.session, self.signed_in = self.session + 1, False

    # What the person does.

    @precondition(lambda self: not self.disabled)
    @rule()
    def sign_in(self) -> None:
        assert self.wait(self.browser.sign_in(self.user)).status_code == 303
        self.session, self.signed_in = self.session + 1, True

    @precondition(lambda self: self.signed_in)
    @rule(asked=some_scopes.filter(bool), off=some_scopes)
    def authorize(self, asked: set[str], off: set[str]) -> None:
        application = Application(self.client_id)
        answer = self.wait(self.browser.authorize(application, scope=" ".join(sorted(asked))))
        if self.deleted:
            assert answer.status_code == 400
            return
        shown = asked & self.ceiling & self.granted
        if not shown:
            assert answered(answer)["error"] == "invalid_scope"
            return
        allowed = shown
        if self.consented is None or not shown <= self.consented:
            allowed = shown - off
            answer = self.wait(self.browser.decide(answer, scopes=sorted(allowed)))
            if not allowed:
                assert answered(answer)["error"] == "access_denied"
                return
            self.consented = ((self.consented or set()) - shown) | allowed
        code = answered(answer)["code"]
        self.codes.append(Code(application, code, allowed, self.consent, self.session))

    @rule()
    def withdraw(self) -> None:
        async def work() -> None:
            async with self.runtime.work(OPERATOR.signed_in_as(self.user.id)) as work:
                await withdraw_consent(work, self.client_id)

        if self.consented is None or self.deleted:
            with pytest.raises(ApplicationNotFound):
                self.wait(work())
            return
        self.wait(work())
        self.withdrawn()

    # What the client does.

    @precondition(lambda self: self.codes)
    @rule(data=st.data())
    def redeem(self, data: st.DataObject) -> None:
        code = data.draw(st.sampled_from(self.codes))
        answer = self.wait(code.application.redeem(self.browser.client, code.code))
        good = (
            code.gave is None
            and not self.disabled
            and not self.deleted
            and self.signed_in
            and code.rests_on == self.consent
            and code.in_browser == self.session
        )
        assert answer.status_code == (200 if good else 400), answer.text
        if good:
            issued = set(answer.json()["scope"].split())
            code.gave = Login(code.application, issued, answer.json(), code.rests_on)
            assert issued == code.scopes & self.bounds()
            self.logins.append(code.gave)
        elif code.gave is not None and not self.deleted:
            code.gave.ended = True

    @precondition(lambda self: self.logins)
    @rule(data=st.data())
    def refresh(self, data: st.DataObject) -> None:
        login = data.draw(st.sampled_from(self.logins))
        token = login.tokens["refresh_token"]
        answer = self.wait(login.application.refresh(self.browser.client, token))
        if not self.alive(login):
            assert answer.status_code == 400
            return
        login.tokens = answer.json()
        assert set(login.tokens["scope"].split()) == login.scopes & self.bounds()

    # What administrators do.

    @rule(scope=st.sampled_from(SCOPES))
    def change_grant(self, scope: str) -> None:
        change = revoke if scope in self.granted else grant
        self.wait(self._by_operator(change, self.user.id, scope))
        self.granted ^= {scope}

    @precondition(lambda self: not self.deleted)
    @rule(ceiling=some_scopes)
    def change_ceiling(self, ceiling: set[str]) -> None:
        self.wait(self._by_operator(change_client, self.client_id, {"scopes": sorted(ceiling)}))
        self.ceiling = ceiling

    @rule()
    def disable_or_enable(self) -> None:
        change = enable_user if self.disabled else disable_user
        self.wait(self._by_operator(change, self.user.id))
        if not self.disabled:
            self.end_all()
        self.disabled = not self.disabled

    @rule()
    def delete_or_register_anew(self) -> None:
        if self.deleted:
            self.register()
        else:
            self.wait(self._by_operator(delete_client, self.client_id))
            self.withdrawn()
        self.deleted = not self.deleted

    # What must hold.

    def bounds(self) -> set[str]:
        return (self.consented or set()) & self.ceiling & self.granted

    def alive(self, login: Login) -> bool:
        return not (login.ended or self.disabled or self.deleted or login.rests_on != self.consent)

    @invariant()
    def every_token_has_what_the_model_says(self) -> None:
        for login in self.logins:
            header = {"Authorization": f"Bearer {login.tokens['access_token']}"}
            answer = self.wait(self.browser.client.get("/users/me", headers=header))
            assert answer.status_code == (200 if self.alive(login) else 401)
            if self.alive(login):
                issued = set(login.tokens["scope"].split())
                assert set(answer.json()["scopes"]) == issued & self.bounds()


@pytest.mark.long
async def test_no_token_outgrows_or_outlives_what_it_rests_on(own_database_url: str) -> None:
    def explore() -> None:
        with asyncio.Runner() as runner:
            opened = Runtime.open(settings_for(own_database_url))
            runtime = runner.run(opened.__aenter__())

            class Machine(ConsentMachine):
                pass

            Machine.runner, Machine.runtime = runner, runtime
            try:
                run_state_machine_as_test(
                    Machine,
                    settings=settings(max_examples=30, stateful_step_count=25, deadline=None),
                )
            finally:
                runner.run(opened.__aexit__(None, None, None))

    await asyncio.to_thread(explore)
