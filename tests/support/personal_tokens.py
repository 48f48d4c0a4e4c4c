"""Personal access tokens, made by the route that everybody uses."""

from datetime import timedelta
from typing import Any

import httpx2

from app.runtime import Runtime
from tests.support.factories import SignedIn, Someone, sign_in

TOKENS = "/users/me/tokens"


def terms(runtime: Runtime, *scopes: str, **changes: Any) -> dict[str, Any]:
    """What POST /users/me/tokens takes."""
    ends = runtime.now() + timedelta(days=30)
    body = {"name": "backup", "scopes": list(scopes), "expires_at": ends.isoformat(), **changes}
    return {name: value for name, value in body.items() if value is not ...}


async def ask_for_token(
    client: httpx2.AsyncClient,
    runtime: Runtime,
    header: dict[str, str],
    *scopes: str,
    **changes: Any,
) -> httpx2.Response:
    """What the route answers to this; what is changed to `...` is left out."""
    return await client.post(TOKENS, json=terms(runtime, *scopes, **changes), headers=header)


async def personal_token(
    client: httpx2.AsyncClient, runtime: Runtime, user: Someone, *scopes: str, **changes: Any
) -> SignedIn:
    """A token of this user's, who signs in to make it and out again."""
    own = await sign_in(client, user)
    answer = await ask_for_token(client, runtime, own.header, *scopes, **changes)
    assert answer.status_code == 201, answer.text
    await client.post("/revoke", data={"token": own.token})
    made = answer.json()
    return SignedIn(client, {"access_token": made["token"], "id": made["id"]})
