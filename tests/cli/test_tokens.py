"""`scopegate token …`: an operator sees a person's tokens, and revokes them."""

import uuid

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.audit import told
from tests.support.commands import Environment, printed, refusal, succeed
from tests.support.factories import make_user, sign_in
from tests.support.personal_tokens import personal_token


async def test_tokens_are_listed_and_revoked_and_logins_are_none(
    environment: Environment, own_runtime: Runtime
) -> None:
    alice = await make_user(own_runtime, "read:items", username="Alice")
    bob = await make_user(own_runtime, "read:items", username="Bob")
    async with client_of(own_runtime) as client:
        one = await personal_token(client, own_runtime, alice, "read:items", name="backup")
        other = await personal_token(client, own_runtime, alice, "read:items", name="deploy")
        login = await sign_in(client, alice)
        listed = await printed("token", "list", "alice")
        assert [each["name"] for each in listed] == ["backup", "deploy"]
        assert {each["id"] for each in listed} == {one.tokens["id"], other.tokens["id"]}
        assert listed[0]["last_used_at"] is None
        shown = await succeed("token", "list", "alice", "--limit", "1")
        assert "backup" in shown
        assert "deploy" not in shown
        assert one.token not in shown
        assert {each["token_name"] for each in await printed("session", "list", "alice")} == {
            "backup",
            "deploy",
            None,
        }
        said = await succeed("token", "revoke", "alice", one.tokens["id"])
        assert "of Alice" in said
        await one.until_it_ends()
        assert [await each.works() for each in (other, login)] == [True, True]
        sessions = await printed("session", "list", "alice")
        (login_id,) = [each["id"] for each in sessions if each["token_name"] is None]
        for name, token_id in (
            ("alice", login_id),
            ("bob", other.tokens["id"]),
            ("alice", str(uuid.uuid4())),
        ):
            assert "no such access token" in await refusal("token", "revoke", name, token_id)
        assert "no such user" in await refusal("token", "list", "nobody")
        assert await printed("token", "list", bob.username) == []
        assert [await each.works() for each in (other, login)] == [True, True]
        await succeed("session", "end-all", "alice")
        await other.until_it_ends()
    async with own_runtime.sessions() as db:
        ((actor, subject, detail),) = await told(db, "token.revoked")
    assert (actor, subject) == (None, alice.id)
    assert detail["reason"] == "revoked by an operator"
