"""Scopegate with hashes that cost next to nothing: so that what is beside them can be seen."""

from functools import partial

from fastapi import FastAPI

from app import runtime
from app.identity.passwords import Argon2Cost, PasswordHasher
from app.main import create_app as create_ours


def create_app() -> FastAPI:
    """Return the app. A user's hash is replaced by a cheap one as they sign in."""
    cheap = partial(PasswordHasher, cost=Argon2Cost(memory=64, passes=1))
    runtime.PasswordHasher = cheap  # type: ignore[attr-defined, assignment]
    return create_ours()
