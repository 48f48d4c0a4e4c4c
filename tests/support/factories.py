"""Users and tokens for tests, made by the functions and routes that everybody uses."""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx2

from app.access.accounts import create_person, prepare_person
from app.access.authority import Caller, Operator
from app.access.grants import grant
from app.access.holders import load_holder
from app.db.work import NOWHERE, Actor, Work
from app.identity.candidates import Authentication
from app.identity.login import authenticate
from app.identity.models import Session
from app.runtime import Runtime

PASSWORD = "correct horse battery staple"
OPERATOR = Operator()
"""Who runs a command: may do all, and needs no session."""


@dataclass(frozen=True)
class Someone:
    """A user that a test made."""

    id: uuid.UUID
    username: str


async def make_user(
    runtime: Runtime,
    *scopes: str,
    username: str | None = None,
    password: str = PASSWORD,
    expires_at: datetime | None = None,
) -> Someone:
    """A person who holds these scopes."""
    username = username or f"user-{uuid.uuid4().hex[:12]}"
    person = await prepare_person(
        runtime.hasher, username=username, password=password, caller=OPERATOR
    )
    async with runtime.work(OPERATOR) as work:
        user = await create_person(work, person)
        for scope in scopes:
            await grant(work, user.id, scope, expires_at=expires_at)
    return Someone(user.id, user.username)


async def signed_in(runtime: Runtime, user: Someone, *scopes: str) -> Caller:
    """The user in a session of their own, whose token has these scopes."""
    lifetime = timedelta(hours=1)
    async with runtime.work(OPERATOR) as work:
        session_id = await add_session(work, user.id, *scopes, lifetime=lifetime)
    return await caller_of(runtime, user, session_id, *scopes)


async def add_session(
    work: Work[Actor], user_id: uuid.UUID, *scopes: str, lifetime: timedelta
) -> uuid.UUID:
    """Add a session whose user has shown no password; its id."""
    session = Session(
        user_id=user_id,
        scopes=sorted(scopes),
        expires_at=work.now + lifetime,
        idle_expires_at=work.now + lifetime,
        refresh_key=bytes(32),
    )
    work.db.add(session)
    await work.db.flush()
    return session.id


async def caller_of(runtime: Runtime, user: Someone, session_id: uuid.UUID, *scopes: str) -> Caller:
    """The user in this session of theirs, by a token of these scopes."""
    async with runtime.sessions() as db:
        holder = await load_holder(db, session_id, user_id=user.id, now=runtime.now())
    assert holder is not None
    return Caller.of(holder.principal(frozenset(scopes)), NOWHERE)


async def login(client: httpx2.AsyncClient, user: Someone, **form: str) -> httpx2.Response:
    """What POST /token answers to this user."""
    data = {"grant_type": "password", "username": user.username, "password": PASSWORD, **form}
    return await client.post("/token", data=data)


async def bearer(client: httpx2.AsyncClient, user: Someone, **form: str) -> dict[str, str]:
    """The header with a fresh token of this user."""
    return (await sign_in(client, user, **form)).header


async def refresh(client: httpx2.AsyncClient, token: str, **form: str) -> httpx2.Response:
    """What POST /token answers to this refresh token."""
    data = {"grant_type": "refresh_token", "refresh_token": token, **form}
    return await client.post("/token", data=data)


@dataclass
class SignedIn:
    """A session: the tokens that were issued last, and the client that has them."""

    client: httpx2.AsyncClient
    tokens: dict[str, Any]

    @property
    def token(self) -> str:
        """The access token."""
        token: str = self.tokens["access_token"]
        return token

    @property
    def refresh_token(self) -> str:
        """The refresh token."""
        token: str = self.tokens["refresh_token"]
        return token

    @property
    def header(self) -> dict[str, str]:
        """The header with the access token."""
        return {"Authorization": f"Bearer {self.token}"}

    async def status(self, path: str = "/users/me") -> int:
        """What a GET with the access token is answered."""
        return await status(self.client, self.header, path)

    async def works(self) -> bool:
        """Whether the access token is accepted."""
        return await self.status() == 200

    async def until_it_ends(self) -> None:
        """Wait until the access token is refused: another process ended it a moment ago."""
        async with asyncio.timeout(60):
            while await self.works():
                await asyncio.sleep(0.01)

    async def refresh(self, token: str | None = None) -> int:
        """Use the refresh token, or an older one, and go on with what is issued; the status."""
        answer = await refresh(self.client, token or self.refresh_token)
        if answer.status_code == 200:
            self.tokens = answer.json()
        return answer.status_code


async def sign_in(client: httpx2.AsyncClient, user: Someone, **form: str) -> SignedIn:
    """Sign in by the password, which must be right."""
    answer = await login(client, user, **form)
    assert answer.status_code == 200, answer.text
    return SignedIn(client, answer.json())


async def status(client: httpx2.AsyncClient, token: dict[str, str], path: str = "/users/me") -> int:
    """What a GET with this token is answered."""
    return (await client.get(path, headers=token)).status_code


async def authenticated(
    runtime: Runtime, username: str, password: str = PASSWORD, *, actor: Actor | None = None
) -> Authentication:
    """Return the person with this name and password. Raises as `authenticate` does."""
    async with authenticate(
        runtime.guard, username=username, password=password, actor=actor or Actor()
    ) as user:
        return user


async def assert_invalid_token(client: httpx2.AsyncClient, authorization: bytes | str) -> None:
    """The header is refused with the one answer for all bad tokens."""
    if isinstance(authorization, str):
        authorization = authorization.encode()
    answer = await client.get("/users/me", headers=[(b"Authorization", authorization)])
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
