"""What starts of itself: a FastAPI app with all that Scopegate imports from others, and no code.

It asks its database once before it serves, as Scopegate must, and has one route.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # noqa: F401 - these too are what is measured
import jwt  # noqa: F401
import passlib.handlers.argon2  # noqa: F401
import prometheus_client  # noqa: F401
import pydantic_settings  # noqa: F401
import structlog  # noqa: F401
import typer  # noqa: F401
import uuid_utils  # noqa: F401
from cryptography.fernet import MultiFernet  # noqa: F401
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase  # noqa: F401


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """One connection, one question."""
    engine = create_async_engine(os.environ["BENCH_DATABASE_URL"])
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root() -> dict[str, str]:
    """Something."""
    return {"status": "ok"}
