"""A Scopegate that serves, for another service beside it: its users, and what they may lose."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from app.access.grants import grant
from app.access.registry import register_scope
from app.identity.account_writes import create_service
from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support import databases
from tests.support.factories import OPERATOR, PASSWORD, Someone, make_user
from tests.support.postgres_programs import libpq_url, psql
from tests.support.processes import Service, serving

SCOPES = ("read:orders", "write:orders")


@dataclass
class Beside:
    """A Scopegate that serves, its administrator, and the secret of the service account."""

    service: Service
    database_url: str
    admin: Someone
    client_secret: str

    def login(self, someone: Someone, scope: str = " ".join(SCOPES)) -> str:
        """Return a new token of this user's."""
        form = {"username": someone.username, "password": PASSWORD, "scope": scope}
        answer = httpx2.post(f"{self.service.url}/token", data=form)
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    def make_token(self, someone: Someone, *scopes: str) -> str:
        """Return a new personal access token of this user's."""
        ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = {"name": "a job", "scopes": scopes or SCOPES, "expires_at": ends}
        url, header = f"{self.service.url}/users/me/tokens", bearer(self.login(someone))
        answer = httpx2.post(url, json=body, headers=header)
        token: str = answer.raise_for_status().json()["token"]
        return token

    def administer(self, method: str, path: str, **options: object) -> None:
        """Ask the API for something as the administrator."""
        headers = {"Authorization": f"Bearer {self.login(self.admin, 'admin')}"}
        answer = httpx2.request(method, self.service.url + path, headers=headers, **options)  # type: ignore[arg-type]
        answer.raise_for_status()

    async def user(self) -> Someone:
        """Return a new user who may read and write orders."""
        async with Runtime.open(settings_for(self.database_url)) as runtime:
            return await make_user(runtime, *SCOPES)


@asynccontextmanager
async def scopegate_beside(server_url: str, **settings: Any) -> AsyncIterator[Beside]:
    """Serve, with a database of its own, in which `orders` is the other service's account."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    async with Runtime.open(settings_for(url)) as runtime:
        async with runtime.work(OPERATOR) as work:
            for scope in SCOPES:
                await register_scope(work, scope, description="See and make orders")
            robot, secret = await create_service(work, username="orders")
            for scope in ("introspect", "read:events"):
                await grant(work, robot.id, scope)
        admin = await make_user(runtime, "admin")
    with serving(database_url=url, secret_keys=SECRET, **settings) as service:
        yield Beside(service, url, admin, secret.value)
    await databases.drop(server_url, name)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def sign_out(beside: Beside, _: Someone, token: str) -> None:
    httpx2.post(f"{beside.service.url}/revoke", data={"token": token}).raise_for_status()


async def disable(beside: Beside, user: Someone, _: str) -> None:
    beside.administer("PATCH", f"/users/{user.id}", json={"disabled": True})


async def revoke(beside: Beside, user: Someone, _: str) -> None:
    beside.administer("DELETE", f"/users/{user.id}/grants/read:orders")


async def disable_by_sql(beside: Beside, user: Someone, _: str) -> None:
    statement = f"UPDATE users SET disabled_at = now() WHERE id = '{user.id}'"
    psql(libpq_url(beside.database_url), statement)


async def end_all_by_sql(beside: Beside, user: Someone, _: str) -> None:
    statement = f"UPDATE users SET session_epoch = session_epoch + 1 WHERE id = '{user.id}'"
    psql(libpq_url(beside.database_url), statement)


TakeAway = Callable[[Beside, Someone, str], Awaitable[None]]
WAYS: dict[TakeAway, int] = {
    sign_out: 401,
    disable: 401,
    revoke: 403,
    disable_by_sql: 401,
    end_all_by_sql: 401,
}
"""How a token may lose what it could do, and what the other service answers it then."""
