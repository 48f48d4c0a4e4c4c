"""`scopegate mail …`: what waits, and whether mails can be sent."""

import json

import pytest

from app.mail.outbox import Mail
from app.runtime import Runtime
from tests.support.clock import MovableClock
from tests.support.commands import Environment, printed, refusal, scopegate, succeed
from tests.support.mails import (
    FROM,
    TAKEN,
    VALUES,
    ended,
    mail_server,
    rows,
    sender_of,
    sending,
    tried,
    until_rows,
    write,
)

TO = "bob@example.com"


async def test_mails_are_listed_by_their_state_without_content_and_address(
    environment: Environment, own_runtime: Runtime
) -> None:
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.recipients["eve@example.com"] = "550 5.1.1 no such user"
        await write(own_runtime, Mail("invitation", TO, VALUES))
        await write(own_runtime, Mail("verify-email", "eve@example.com", VALUES))
        await until_rows(own_runtime, ended)
    await write(own_runtime, Mail("reset-password", TO, VALUES))
    listed = await printed("mail", "list")
    assert [(each["purpose"], each["state"]) for each in listed] == [
        ("reset-password", "waiting"),
        ("verify-email", "failed"),
        ("invitation", "sent"),
    ]
    assert listed[1]["error"] == "the server refused the recipient: 550 5.1.1"
    shown = await succeed("mail", "list") + json.dumps(listed)
    for secret in ("example.com", "alice", VALUES["link"]):
        assert secret not in shown
    for state in ("waiting", "sent", "failed"):
        (one,) = await printed("mail", "list", "--state", state)
        assert one["state"] == state
    assert len(await printed("mail", "list", "--limit", "2")) == 2
    wrong = await scopegate("mail", "list", "--state", "lost")
    assert wrong.exit_code == 2
    assert "waiting, sent or failed" in wrong.output


async def test_retry_makes_due_what_waits_and_leaves_what_ended(
    environment: Environment, own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, Mail("invitation", TO, VALUES))
    async with mail_server() as server:
        server.recipients[TO] = "451 come again"
        async with sending(sender_of(own_runtime, server.port)):
            await until_rows(own_runtime, tried(1))
        server.recipients.clear()
        assert await succeed("mail", "retry") == "1 mails are due now\n"
        async with sending(sender_of(own_runtime, server.port)):
            await until_rows(own_runtime, ended)
        assert await succeed("mail", "retry") == "0 mails are due now\n"
        assert len(server.taken) == 1


@pytest.fixture
def mailing(environment: Environment) -> Environment:
    environment.setenv("SCOPEGATE_MAIL_FROM", FROM)
    return environment


async def test_a_test_mail_goes_at_once_and_says_what_the_server_said(
    mailing: Environment, own_runtime: Runtime
) -> None:
    async with mail_server() as server:
        mailing.setenv("SCOPEGATE_SMTP_URL", f"smtp://127.0.0.1:{server.port}?tls=off")
        said = await succeed("mail", "test", TO)
        assert said == f"127.0.0.1:{server.port} took it: {TAKEN}\n"
        (taken,) = server.taken
        assert taken.message["Subject"] == "A test of Scopegate"
        server.recipients[TO] = f"550 5.1.1 <{TO}>: no such user"
        assert await refusal("mail", "test", TO) == (
            f"127.0.0.1:{server.port}: the server refused the recipient: 550 5.1.1 "
            f"(550 5.1.1 <{TO}>: no such user)"
        )
        assert "no message can be written" in await refusal("mail", "test", "bob")
    assert await rows(own_runtime) == []


async def test_a_test_mail_without_a_server_is_refused(mailing: Environment) -> None:
    assert "SCOPEGATE_SMTP_URL is not set" in await refusal("mail", "test", TO)
