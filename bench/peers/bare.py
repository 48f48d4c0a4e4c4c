"""The limit: a FastAPI route that protects nothing."""

from fastapi import FastAPI

from bench.peers.account import CREATED_AT, SCOPES, USER_ID, USERNAME, Me

app = FastAPI()


@app.get("/users/me")
async def me() -> Me:
    """The answer that all others give too, without asking who wants it."""
    return Me(
        id=USER_ID,
        username=USERNAME,
        kind="person",
        created_at=CREATED_AT,
        scopes=SCOPES,
        granted=SCOPES,
    )
