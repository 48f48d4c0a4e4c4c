"""`scopegate session …`: an ended session's tokens count no more."""

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.commands import Environment, printed, refusal, succeed
from tests.support.factories import bearer, make_user


async def test_sessions_are_listed_and_ended_and_their_tokens_refused(
    environment: Environment, own_runtime: Runtime
) -> None:
    alice = await make_user(own_runtime, username="Alice")
    async with client_of(own_runtime) as client:

        async def statuses() -> list[int]:
            return [
                (await client.get("/users/me", headers=each)).status_code for each in (one, two)
            ]

        one, two = await bearer(client, alice), await bearer(client, alice)
        first, second = await printed("session", "list", "alice")
        assert await printed("session", "list", "alice", "--limit", "1") == [first]
        assert first["id"] in await succeed("session", "list", "alice")
        await succeed("session", "end", first["id"])
        assert await statuses() == [401, 200]
        assert await printed("session", "list", "alice") == [second]
        assert "Alice" in await succeed("session", "end-all", "alice")
        assert await statuses() == [401, 401]
    assert await printed("session", "list", "alice") == []
    assert "no such session" in await refusal("session", "end", first["id"])
    for command in ("list", "end-all"):
        assert "no such user" in await refusal("session", command, "nobody")
