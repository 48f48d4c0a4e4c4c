"""GET /users/me."""

import httpx2
import pytest

from app.access.grants import revoke
from app.runtime import Runtime
from tests.support.factories import OPERATOR, bearer, make_user

pytestmark = pytest.mark.every_token_kind


async def test_me_tells_effective_and_granted_scopes(
    client: httpx2.AsyncClient, runtime: Runtime
) -> None:
    user = await make_user(runtime, "read:items", "write:items", "introspect", username="Zoë")
    token = await bearer(client, user, scope="read:items write:items")
    async with runtime.work(OPERATOR) as work:
        await revoke(work, user.id, "write:items")
    me = (await client.get("/users/me", headers=token)).json()
    assert me.pop("created_at")
    assert me == {
        "id": str(user.id),
        "username": "Zoë",
        "kind": "person",
        "email": None,
        "email_verified": False,
        "scopes": ["read:items"],
        "granted": ["introspect", "read:items"],
        "granted_until": {},
    }
