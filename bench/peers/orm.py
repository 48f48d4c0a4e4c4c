"""One ORM look-up a request: the tutorial's way with a user table, as a good team would write it.

A session a request, a pool of connections, the user and their scopes in one joined query. A
disabled user and a scope taken away are refused at once, everywhere.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm, SecurityScopes
from pwdlib import PasswordHash
from sqlalchemy import DateTime, ForeignKey, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

from bench.peers.account import (
    CREATED_AT,
    PASSWORD_HASH,
    POOL_SIZE,
    SCOPES,
    SECRET,
    TOKEN_SECONDS,
    USER_ID,
    USERNAME,
    Me,
)

engine = create_async_engine(
    os.environ["BENCH_DATABASE_URL"],
    pool_size=POOL_SIZE,
    max_overflow=0,
    pool_pre_ping="BENCH_PRE_PING" in os.environ,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The declarative base."""


class UserScope(Base):
    """A user holds a scope."""

    __tablename__ = "user_scopes"

    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)


class User(Base):
    """Somebody who can sign in."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    scopes: Mapped[list[UserScope]] = relationship(lazy="raise")


async def make_tables() -> None:
    """The tables and the one user, unless they are there."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        user = {"id": USER_ID, "username": USERNAME, "password_hash": PASSWORD_HASH}
        user |= {"created_at": CREATED_AT, "disabled": False}
        await connection.execute(insert(User).values(user).on_conflict_do_nothing())
        held = [{"user_id": USER_ID, "scope": scope} for scope in SCOPES]
        await connection.execute(insert(UserScope).values(held).on_conflict_do_nothing())


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Tables at the start; connections closed at the end."""
    await make_tables()
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
hasher = PasswordHash.recommended()
bearer = OAuth2PasswordBearer(tokenUrl="token", scopes=dict.fromkeys(SCOPES, ""))


async def request_session() -> AsyncIterator[AsyncSession]:
    """The request's database session."""
    async with sessions() as db:
        yield db


SessionDep = Annotated[AsyncSession, Depends(request_session)]


@app.post("/token")
async def sign_in(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], db: SessionDep
) -> dict[str, str]:
    """A JWT with the scopes that were asked for."""
    user = await db.scalar(select(User).where(User.username == form.username))
    if user is None or not hasher.verify(form.password, user.password_hash):
        raise HTTPException(400, "Incorrect username or password")
    claims = {
        "sub": str(user.id),
        "scope": " ".join(form.scopes),
        "exp": datetime.now(UTC) + timedelta(seconds=TOKEN_SECONDS),
    }
    return {"access_token": jwt.encode(claims, SECRET, algorithm="HS256"), "token_type": "bearer"}


async def current_user(
    required: SecurityScopes, token: Annotated[str, Depends(bearer)], db: SessionDep
) -> Me:
    """Whoever the token names, with the scopes that they hold now."""
    try:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Could not validate credentials") from None
    by_id = select(User).options(joinedload(User.scopes)).where(User.id == uuid.UUID(claims["sub"]))
    user = (await db.scalars(by_id)).unique().one_or_none()
    if user is None or user.disabled:
        raise HTTPException(401, "Could not validate credentials")
    granted = {held.scope for held in user.scopes}
    scopes = granted.intersection(claims["scope"].split())
    if not scopes.issuperset(required.scopes):
        raise HTTPException(403, "Not enough permissions")
    return Me(
        id=user.id,
        username=user.username,
        kind="person",
        created_at=user.created_at,
        scopes=sorted(scopes),
        granted=sorted(granted),
    )


@app.get("/users/me")
async def me(user: Annotated[Me, Security(current_user, scopes=["read:items"])]) -> Me:
    """Who the token names."""
    return user
