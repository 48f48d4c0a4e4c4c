"""`scopegate user invite`, `user email`, and what `user create` does for people with an address."""

import shlex

from app.runtime import Runtime
from tests.conftest import client_of
from tests.support.commands import Environment, printed, refusal, succeed
from tests.support.documents import Document
from tests.support.factories import PASSWORD, Someone, login, make_user


async def test_an_invited_person_sets_their_password_by_the_printed_link(
    environment: Environment, own_runtime: Runtime
) -> None:
    made = await printed("user", "create", "bob", "--invite", "--scope", "read:items")
    token = made["link"].partition("token=")[2]
    async with client_of(own_runtime) as client:
        body = {"token": token, "password": PASSWORD}
        assert (await client.post("/invitation/accept", json=body)).status_code == 204
        answer = await login(client, Someone(made["id"], "bob"))
        assert answer.json()["scope"] == "read:items"


async def test_a_person_is_invited_again(environment: Environment, own_runtime: Runtime) -> None:
    await make_user(own_runtime, username="bob")
    made = await printed("user", "invite", "bob")
    assert "/accept-invitation?token=sgl_" in made["link"]
    assert made["link"] not in (await succeed("audit", "--user", "bob"))
    shown = await succeed("user", "invite", "bob")
    assert "Invited bob: open until" in shown


async def test_an_address_is_given_and_taken_away(
    environment: Environment, own_runtime: Runtime
) -> None:
    await make_user(own_runtime, username="bob")
    assert await succeed("user", "email", "bob", "bob@example.com") == (
        "bob has a new address, to be confirmed\n"
    )
    shown = await printed("user", "show", "bob")
    assert (shown["email"], shown["email_verified"]) == ("bob@example.com", False)
    assert await succeed("user", "email", "bob", "") == "bob has no address\n"
    assert (await printed("user", "show", "bob"))["email"] is None
    assert "not an e-mail address" in await refusal("user", "email", "bob", "nowhere")


async def test_a_service_has_no_address_and_is_not_invited(environment: Environment) -> None:
    for options in (["--invite"], ["--email", "a@example.com"]):
        text = await refusal("user", "create", "worker", "--service", *options)
        assert "A service account has no address" in text
    await printed("user", "create", "worker", "--service")
    assert "Only people are invited" in await refusal("user", "invite", "worker")
    assert "Only people have" in await refusal("user", "email", "worker", "a@example.com")


async def test_the_guides_command_makes_a_link(environment: Environment) -> None:
    (block,) = Document("docs/how-to/let-people-sign-up.md").commands()
    words = shlex.split(block.text)
    assert words[0] == "scopegate"
    assert "/accept-invitation?token=sgl_" in await succeed(*words[1:])
