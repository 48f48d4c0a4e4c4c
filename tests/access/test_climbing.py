"""Nobody climbs: any admin calls, by anybody, against a small model of the rules."""

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

import httpx2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from app.access.grants import grant
from app.access.models import Grant
from app.access.registry import register_scope
from app.db.work import Actor
from app.identity.account_writes import add_user, make_secret
from app.identity.candidates import Authentication
from app.identity.models import User
from app.identity.users import Kind, NewUser, user_of_id
from app.runtime import Runtime
from app.tokens.issuing import password_grant
from tests.conftest import client_of, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import OPERATOR, PASSWORD

T = TypeVar("T")

END_OF_TIME = 10**6
NO_HASH = "nobody signs in by this"
SCOPES = ["admin", "write:users", "write:grants", "read:items", "ship:orders"]
scopes = st.sampled_from(SCOPES)
# In hours from the start; the clock stands a little past whole ones.
ends = st.sampled_from([2, 4, 8, END_OF_TIME])


@dataclass
class Account:
    """What the model knows of a user."""

    id: uuid.UUID
    kind: str
    grants: dict[str, int] = field(default_factory=dict)
    """Until when each is held."""
    disabled: bool = False
    secrets: int = 0


OWN_BY_PASSWORD = ("password", "address", "invitation")
WAYS = [*OWN_BY_PASSWORD, "name", "secrets", "sessions"]


class AuthorityMachine(RuleBasedStateMachine):
    """Five accounts, one of them a service; the service's answers must be the model's."""

    runner: ClassVar[asyncio.Runner]
    runtime: ClassVar[Runtime]
    clock: ClassVar[MovableClock]
    client: ClassVar[httpx2.AsyncClient]

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize(data=st.data())
    def somebody_is_there(self, data: st.DataObject) -> None:
        self.start = self.runtime.now()
        self.hour = 0
        others = data.draw(
            st.lists(st.dictionaries(scopes, ends, max_size=4), min_size=4, max_size=4)
        )
        self.wait(self.make_accounts([{"admin": END_OF_TIME}, *others]))

    async def make_accounts(self, granted: list[dict[str, int]]) -> None:
        self.accounts: list[Account] = []
        async with self.runtime.work(OPERATOR) as work:
            await work.db.execute(delete(User))
            for grants in granted:
                kind: Kind = "person" if self.accounts else "service"
                user = await add_user(work, NewUser(uuid.uuid4().hex, kind, NO_HASH))
                account = Account(user.id, kind, grants)
                self.accounts.append(account)
                if kind == "service":
                    # Without a secret it can't sign in, and is no admin who could help.
                    await make_secret(work, user.id)
                    account.secrets = 1
                for scope, end in grants.items():
                    await grant(work, account.id, scope, expires_at=self.moment(end))

    def moment(self, hour: int) -> datetime | None:
        return None if hour == END_OF_TIME else self.start + timedelta(hours=hour)

    # The rules, as the model has them.

    def granted(self, account: Account) -> dict[str, int]:
        return {scope: end for scope, end in account.grants.items() if end > self.hour}

    def issued(self, account: Account, asked: set[str] | None) -> set[str]:
        granted = self.granted(account)
        if asked is None:
            return set(granted)
        return asked if "admin" in granted else asked & granted.keys()

    def may(self, token: set[str], scope: str) -> bool:
        return scope in token or "admin" in token

    def may_manage(self, token: set[str], target: Account) -> bool:
        return all(self.may(token, scope) for scope in self.granted(target))

    def may_take_over(self, caller: Account, token: set[str], target: Account) -> bool:
        return all(
            self.holds_until(caller, token, scope) >= end
            for scope, end in self.granted(target).items()
        )

    def holds_until(self, caller: Account, token: set[str], scope: str) -> int:
        if not self.may(token, scope):
            return 0
        granted = self.granted(caller)
        by_admin = granted.get("admin", 0)
        # A grant that the token does not name counts for nothing; that of admin for every scope.
        return max(granted.get(scope, 0), by_admin) if scope in token else by_admin

    def is_last_admin(self, target: Account) -> bool:
        if target.disabled or "admin" not in self.granted(target):
            return False
        others = [each for each in self.accounts if each is not target and not each.disabled]
        return all(each.grants.get("admin") != END_OF_TIME for each in others)

    def in_effect(self, account: Account) -> dict[str, int]:
        return {} if account.disabled else self.granted(account)

    @contextmanager
    def nobody_gains_what_the_caller_lacks(
        self, caller: Account, token: set[str]
    ) -> Iterator[None]:
        """For itself or another account, whatever the rules above let through."""
        own = {scope: self.holds_until(caller, token, scope) for scope in SCOPES}
        before = {each.id: self.in_effect(each) for each in self.accounts}
        yield
        for each in self.accounts:
            for scope, end in self.in_effect(each).items():
                assert end <= max(before[each.id].get(scope, 0), own[scope])

    # What callers try.

    def draw_call(self, data: st.DataObject) -> tuple[Account, set[str], Account, dict[str, str]]:
        """A caller, the scopes of their token, whom they go for, and the token."""
        able = [each for each in self.accounts if not each.disabled]
        caller = data.draw(st.sampled_from(able))
        asked = data.draw(st.none() | st.sets(scopes, min_size=1))
        if not self.issued(caller, asked):
            asked = None
        target = data.draw(st.sampled_from(self.accounts))
        return caller, self.issued(caller, asked), target, self.wait(self.token(caller, asked))

    async def token(self, caller: Account, asked: set[str] | None) -> dict[str, str]:
        async with self.runtime.work(Actor(), at_once=True) as work:
            user = await user_of_id(work.db, caller.id)
            issued = await password_grant(
                work,
                self.runtime.issuer,
                person=Authentication(user.id, user.password_hash or "", at=work.now),
                client=None,
                requested=asked,
            )
        return {"Authorization": f"Bearer {issued.access_token}"}

    def call(self, token: dict[str, str], method: str, path: str, body: object = None) -> int:
        answer = self.wait(self.client.request(method, path, json=body, headers=token))
        return answer.status_code

    @rule(data=st.data(), scope=scopes, end=ends)
    def grant_a_scope(self, data: st.DataObject, scope: str, end: int) -> None:
        caller, token, target, headers = self.draw_call(data)
        moment = self.moment(end)
        body = {"expires_at": moment.isoformat()} if moment else None
        status = self.call(headers, "PUT", f"/users/{target.id}/grants/{scope}", body)
        if not self.may(token, "write:grants"):
            assert status == 403
        elif end <= self.hour:
            assert status == 422
        elif not self.may_manage(token, target) or self.holds_until(caller, token, scope) < end:
            assert status == 403, "more than they hold, or for longer"
        elif scope == "admin" and end != END_OF_TIME and self.is_last_admin(target):
            assert status == 409
        else:
            assert status == 204
            with self.nobody_gains_what_the_caller_lacks(caller, token):
                target.grants[scope] = end

    @rule(data=st.data(), scope=scopes)
    def revoke_a_scope(self, data: st.DataObject, scope: str) -> None:
        _, token, target, headers = self.draw_call(data)
        status = self.call(headers, "DELETE", f"/users/{target.id}/grants/{scope}")
        allowed = self.may(token, "write:grants") and self.may(token, scope)
        if not allowed or not self.may_manage(token, target):
            assert status == 403
        elif scope == "admin" and self.is_last_admin(target):
            assert status == 409
        else:
            assert status == 204
            target.grants.pop(scope, None)

    @rule(data=st.data(), disabled=st.booleans())
    def disable_or_enable(self, data: st.DataObject, disabled: bool) -> None:
        caller, token, target, headers = self.draw_call(data)
        status = self.call(headers, "PATCH", f"/users/{target.id}", {"disabled": disabled})
        if not self.may(token, "write:users") or not self.may_manage(token, target):
            assert status == 403
        elif not disabled and not self.may_take_over(caller, token, target):
            assert status == 403, "what it holds comes back for longer than they hold it"
        elif disabled and self.is_last_admin(target):
            assert status == 409
        else:
            assert status == 200
            with self.nobody_gains_what_the_caller_lacks(caller, token):
                target.disabled = disabled

    @rule(data=st.data(), way=st.sampled_from(WAYS))
    def take_an_account_over(self, data: st.DataObject, way: str) -> None:
        caller, token, target, headers = self.draw_call(data)
        path = f"/users/{target.id}"
        person = target.kind == "person"
        match way:
            case "name":
                body = {"username": f"user-{uuid.uuid4().hex}"}
                status, done = self.call(headers, "PATCH", path, body), 200 if person else 422
            case "password":
                status = self.call(headers, "POST", f"{path}/password", {"password": PASSWORD})
                done = 204 if person else 422
            case "address":
                body = {"email": f"{uuid.uuid4().hex}@example.com"}
                status, done = self.call(headers, "PATCH", path, body), 200 if person else 422
            case "invitation":
                status = self.call(headers, "POST", f"{path}/invitation")
                done = 201 if person else 422
            case "secrets":
                status = self.call(headers, "POST", f"{path}/secrets")
                done = 422 if person else 201 if target.secrets < 2 else 409
            case _:
                status, done = self.call(headers, "DELETE", f"{path}/sessions"), 204
        if not self.may(token, "write:users") or not self.may_manage(token, target):
            assert status == 403
        elif way in OWN_BY_PASSWORD and target is caller:
            assert status == 403, "their own account they change with their password"
        elif way != "sessions" and not self.may_take_over(caller, token, target):
            assert status == 403, "it would serve them for longer than what they hold"
        else:
            assert status == done
            target.secrets += way == "secrets" and status == 201

    @rule(data=st.data())
    def register_a_scope(self, data: st.DataObject) -> None:
        _, token, _, headers = self.draw_call(data)
        name = f"x:{uuid.uuid4().hex}"
        status = self.call(headers, "PUT", f"/scopes/{name}", {"description": "Something"})
        assert status == (200 if "admin" in token else 403)

    @rule(hours=st.integers(1, 3))
    def let_time_pass(self, hours: int) -> None:
        self.clock.move(hours=hours)
        self.hour += hours

    @invariant()
    def everybody_holds_what_the_model_says_and_somebody_is_admin(self) -> None:
        if not hasattr(self, "accounts"):
            return
        assert self.wait(self.held()) == {
            each.id: (each.disabled, self.granted(each)) for each in self.accounts
        }
        assert any(
            each.grants.get("admin") == END_OF_TIME and not each.disabled for each in self.accounts
        )

    async def held(self) -> dict[uuid.UUID, tuple[bool, dict[str, int]]]:
        async with self.runtime.sessions() as db:
            users = await db.scalars(select(User))
            found: dict[uuid.UUID, tuple[bool, dict[str, int]]] = {
                user.id: (user.disabled_at is not None, {}) for user in users
            }
            for each in await db.scalars(select(Grant)):
                end = END_OF_TIME
                if each.expires_at is not None:
                    end = round((each.expires_at - self.start) / timedelta(hours=1))
                if end > self.hour:
                    found[each.user_id][1][each.scope] = end
        return found


@pytest.mark.long
async def test_nobody_climbs_whoever_calls_whatever(own_database_url: str) -> None:
    def explore() -> None:
        # A thread and a loop of its own: hypothesis' machines are not async.
        with asyncio.Runner() as runner:
            clock = MovableClock()
            opened = Runtime.open(settings_for(own_database_url), now=clock)
            runtime = runner.run(opened.__aenter__())
            runner.run(register(runtime))

            class Machine(AuthorityMachine):
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


async def register(runtime: Runtime) -> None:
    async with runtime.work(OPERATOR) as work:
        await register_scope(work, "ship:orders", description="Ship")
