"""Two serving processes and `kill -9` in the middle of sending: each mail once, and never none."""

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import func, select

from app.mail.models import OutboxMail
from app.mail.outbox import Mail
from app.runtime import Runtime
from tests.conftest import SECRET
from tests.support.mails import VALUES, ended, mail_server, rows, smtp_settings, until_rows, write
from tests.support.processes import Service, serving, until

pytestmark = pytest.mark.system
MAILS = 60


@pytest.fixture
def settings(own_runtime: Runtime) -> dict[str, Any]:
    url = own_runtime.engine.url.render_as_string(hide_password=False)
    return {"database_url": url, "secret_keys": SECRET}


def mails(first: int, number: int) -> list[Mail]:
    return [Mail("invitation", f"{n}@example.com", VALUES) for n in range(first, first + number)]


async def sent(runtime: Runtime) -> int:
    async with runtime.reading() as db:
        counted = select(func.count()).where(OutboxMail.sent_at.is_not(None))
        return await db.scalar(counted) or 0


async def test_two_processes_send_each_mail_once(
    own_runtime: Runtime, settings: dict[str, Any]
) -> None:
    async with mail_server() as server:
        mine = smtp_settings(server.port)
        with serving(**settings, **mine) as one, serving(**settings, **mine) as other:
            for first in range(0, MAILS, 5):
                await write(own_runtime, *mails(first, 5))
                await until(lambda wanted=first + 5: len(server.taken) >= wanted)  # type: ignore[misc]
            await until_rows(own_runtime, ended)
            for service in (one, other):
                assert "@example.com" not in service.output()
                assert VALUES["link"] not in service.output()
    assert Counter(each.recipient for each in server.taken) == Counter(
        mail.to for mail in mails(0, MAILS)
    )


async def test_a_process_that_is_killed_while_it_sends_loses_no_mail_and_repeats_none_it_wrote_down(
    own_runtime: Runtime, settings: dict[str, Any]
) -> None:
    async with mail_server() as server:
        mine = smtp_settings(server.port)
        with serving(**settings, **mine) as killed:
            await write(own_runtime, *mails(0, MAILS))
            # Some are acknowledged, some are with the server, some are not sent yet.
            server.silent.update(mail.to for mail in mails(20, 5))
            await until(lambda: len(server.taken) > 20)
            os.killpg(killed.process.pid, signal.SIGKILL)
            killed.process.wait()
        # What it had sent may be on its way still.
        await until(lambda: not server.connected)
        before = Counter(each.recipient for each in server.taken)
        written_down = {row.address_digest for row in await rows(own_runtime) if row.sent_at}
        server.silent.clear()
        server.answers.set()
        with serving(**settings, **mine):
            found = await until_rows(own_runtime, ended)
    assert all(row.sent_at for row in found)
    after = Counter(each.recipient for each in server.taken)
    assert after.keys() == {mail.to for mail in mails(0, MAILS)}, "none is lost"
    assert max(after.values()) <= 2
    twice = {to for to, times in after.items() if times == 2}
    assert twice <= before.keys()
    assert not {own_runtime.mailer.digest(to) for to in twice} & written_down


async def test_a_process_that_ends_as_it_is_told_to_repeats_none(
    own_runtime: Runtime, settings: dict[str, Any]
) -> None:
    async with mail_server() as server:
        mine = smtp_settings(server.port)

        def end(service: Service) -> None:
            service.terminate()

        with serving(**settings, **mine) as first:
            await write(own_runtime, *mails(0, MAILS))
            await until(lambda: len(server.taken) > 10)
            await asyncio.to_thread(end, first)
        with serving(**settings, **mine):
            await until_rows(own_runtime, ended)
    assert set(Counter(each.recipient for each in server.taken).values()) == {1}
    assert await sent(own_runtime) == MAILS
