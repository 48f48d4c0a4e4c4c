"""fastapi-users with SQLAlchemy on Postgres, once for each strategy (BENCH_STRATEGY).

`jwt` reads the user at each request, and a token is good until it expires. `database` reads the
token and the user, and logging out deletes the token. There are no scopes in either.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.authentication.strategy.db import DatabaseStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from fastapi_users_db_sqlalchemy.access_token import (
    SQLAlchemyAccessTokenDatabase,
    SQLAlchemyBaseAccessTokenTableUUID,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from bench.peers.account import (
    CREATED_AT,
    EMAIL,
    PASSWORD_HASH,
    POOL_SIZE,
    SCOPES,
    SECRET,
    TOKEN_SECONDS,
    USER_ID,
    Me,
)

engine = create_async_engine(os.environ["BENCH_DATABASE_URL"], pool_size=POOL_SIZE, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The declarative base."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """Somebody who can sign in."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A token of the database strategy."""


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    """The library's, unchanged."""


async def request_session() -> AsyncIterator[AsyncSession]:
    """The request's database session."""
    async with sessions() as db:
        yield db


SessionDep = Annotated[AsyncSession, Depends(request_session)]


async def user_manager(db: SessionDep) -> AsyncIterator[UserManager]:
    """The manager over the request's database session."""
    yield UserManager(SQLAlchemyUserDatabase(db, User))


def jwt_strategy() -> JWTStrategy[User, uuid.UUID]:
    """The token says who it is."""
    return JWTStrategy(secret=SECRET, lifetime_seconds=TOKEN_SECONDS)


def database_strategy(db: SessionDep) -> DatabaseStrategy[User, uuid.UUID, AccessToken]:
    """The token is a row."""
    tokens = SQLAlchemyAccessTokenDatabase(db, AccessToken)
    return DatabaseStrategy(tokens, lifetime_seconds=TOKEN_SECONDS)


STRATEGIES: dict[str, Any] = {"jwt": jwt_strategy, "database": database_strategy}

backend = AuthenticationBackend(
    name="bench",
    transport=BearerTransport(tokenUrl="auth/login"),
    get_strategy=STRATEGIES[os.environ["BENCH_STRATEGY"]],
)
users = FastAPIUsers[User, uuid.UUID](user_manager, [backend])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The tables and the one user at the start; connections closed at the end."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        user = {"id": USER_ID, "email": EMAIL, "hashed_password": PASSWORD_HASH}
        user |= {"is_active": True, "is_superuser": False, "is_verified": True}
        await connection.execute(insert(User).values(user).on_conflict_do_nothing())
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.include_router(users.get_auth_router(backend), prefix="/auth")


@app.get("/users/me")
async def me(user: Annotated[User, Depends(users.current_user(active=True))]) -> Me:
    """Who the token stands for."""
    return Me(
        id=user.id,
        username=user.email,
        kind="person",
        created_at=CREATED_AT,
        scopes=SCOPES,
        granted=SCOPES,
    )
