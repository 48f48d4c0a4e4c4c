"""The way of FastAPI's tutorial: what the token says counts until it expires.

The user comes out of a dictionary, as there; nothing can be revoked.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm, SecurityScopes
from pwdlib import PasswordHash

from bench.peers.account import (
    CREATED_AT,
    PASSWORD_HASH,
    SCOPES,
    SECRET,
    TOKEN_SECONDS,
    USER_ID,
    USERNAME,
    Me,
)

ALGORITHM = os.environ.get("BENCH_ALGORITHM", "HS256")
if ALGORITHM == "HS256":
    signing_key: str | ec.EllipticCurvePrivateKey = SECRET
    verifying_key: str | ec.EllipticCurvePublicKey = SECRET
else:
    signing_key = ec.generate_private_key(ec.SECP256R1())
    verifying_key = signing_key.public_key()

USERS = {USERNAME: {"id": USER_ID, "password_hash": PASSWORD_HASH, "created_at": CREATED_AT}}

app = FastAPI()
hasher = PasswordHash.recommended()
bearer = OAuth2PasswordBearer(tokenUrl="token", scopes=dict.fromkeys(SCOPES, ""))


@app.post("/token")
def sign_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    """A JWT with the scopes that were asked for."""
    user = USERS.get(form.username)
    if user is None or not hasher.verify(form.password, user["password_hash"]):
        raise HTTPException(400, "Incorrect username or password")
    claims = {
        "sub": form.username,
        "scope": " ".join(form.scopes),
        "exp": datetime.now(UTC) + timedelta(seconds=TOKEN_SECONDS),
    }
    token = jwt.encode(claims, signing_key, algorithm=ALGORITHM)
    return {"access_token": token, "token_type": "bearer"}


async def current_user(required: SecurityScopes, token: Annotated[str, Depends(bearer)]) -> Me:
    """Whoever the token names, if it carries the scopes that the route needs."""
    try:
        claims = jwt.decode(token, verifying_key, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Could not validate credentials") from None
    user = USERS.get(claims["sub"])
    if user is None:
        raise HTTPException(401, "Could not validate credentials")
    scopes = claims["scope"].split()
    if not set(required.scopes) <= set(scopes):
        raise HTTPException(403, "Not enough permissions")
    return Me(
        id=user["id"],
        username=claims["sub"],
        kind="person",
        created_at=user["created_at"],
        scopes=scopes,
        granted=SCOPES,
    )


@app.get("/users/me")
async def me(user: Annotated[Me, Security(current_user, scopes=["read:items"])]) -> Me:
    """Who the token names."""
    return user
