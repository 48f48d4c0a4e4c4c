"""The sender: once, again, or never; in one process at a time; five an hour to one address."""

import asyncio
import logging
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, text, update

from app.db.locks import Lock, take_lock
from app.db.work import NOWHERE, Actor, Origin, Work
from app.identity.models import User
from app.mail import claims
from app.mail.claims import LIMIT, OVER_LIMIT, claim
from app.mail.models import OutboxMail
from app.mail.outbox import Asked, Composer, Mail, Mailer
from app.mail.sender import AT_ONCE, Sender
from app.runtime import Runtime
from tests.conftest import SECRET, settings_for
from tests.support.clock import MovableClock
from tests.support.factories import make_user
from tests.support.mails import (
    LINK,
    VALUES,
    dump,
    ended,
    mail_server,
    rows,
    sender_of,
    sending,
    silent_server,
    tried,
    until_rows,
    write,
)
from tests.support.processes import until

TO = "bob@example.com"
MAIL = Mail("verify-email", TO, VALUES)


async def test_a_mail_is_written_with_what_causes_it_and_with_it_alone(
    own_runtime: Runtime,
) -> None:
    async with own_runtime.work(Actor()) as work:
        with suppress(ConnectionError):
            async with work.savepoint():
                own_runtime.mailer.send(work, MAIL)
                await work.db.flush()
                raise ConnectionError
    assert await rows(own_runtime) == []
    assert not own_runtime.mailer.awake.is_set()
    await write(own_runtime, MAIL)
    assert len(await rows(own_runtime)) == 1
    assert own_runtime.mailer.awake.is_set(), "the sender is woken after the commit"


async def test_a_mail_is_delivered_once_and_its_content_is_dropped(own_runtime: Runtime) -> None:
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        await write(own_runtime, MAIL)
        (row,) = await until_rows(own_runtime, ended)
    assert row.sent_at
    assert row.body is None
    (taken,) = server.taken
    assert (taken.sender, taken.recipient) == ("no-reply@shop.example", TO)
    assert LINK in taken.part("plain")
    assert own_runtime.mailer.counts.sent == 1


async def test_no_column_but_the_sealed_body_tells_of_address_name_or_link(
    own_runtime: Runtime,
) -> None:
    await write(own_runtime, MAIL)
    async with own_runtime.work(Actor()) as work:
        own_runtime.mailer.ask(work, Asked("verify", TO, VALUES, Origin("192.0.2.1")))
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.recipients[TO] = f"451 4.7.1 <{TO}>: come again"
        found = await until_rows(own_runtime, lambda found: all(row.attempts for row in found))
        assert all(row.body for row in found)
        for secret in (TO, "bob", "alice", "a-token-that-is-secret", "192.0.2.1"):
            assert secret not in await dump(own_runtime)
            assert all(secret not in (row.body or "") for row in found)


async def test_neither_log_nor_last_error_has_an_address_or_a_link(
    own_runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await write(own_runtime, MAIL, replace(MAIL, to="carol@example.com"))
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.recipients[TO] = f"550 5.1.1 <{TO}>: no such user"
        found = await until_rows(own_runtime, ended)
    assert [row.last_error for row in found] == [
        "the server refused the recipient: 550 5.1.1",
        None,
    ]
    logged = "".join(str(record.__dict__) for record in caplog.records if record.name[:3] == "app")
    assert "mail.sent" in logged
    for secret in (TO, "carol", "no such user", LINK, "alice"):
        assert secret not in logged


async def test_what_is_refused_for_now_is_tried_again_ever_more_slowly_with_the_same_message_id(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.contents[TO] = "451 4.3.0 come again"
        delays = []
        for attempt in range(1, 9):
            (row,) = await until_rows(own_runtime, tried(attempt))
            assert row.tried_at
            delays.append(round((row.due_at - row.tried_at).total_seconds()))
            assert row.last_error == "the server refused the message: 451 4.3.0"
            clock.move(seconds=(row.due_at - clock()).total_seconds() + 0.01)
            own_runtime.mailer.awake.set()
        assert delays == [30, 60, 120, 240, 480, 960, 1800, 1800]
        server.contents.clear()
        clock.move(hours=1)
        own_runtime.mailer.awake.set()
        (row,) = await until_rows(own_runtime, ended)
    assert row.sent_at
    assert row.last_error is None
    assert server.taken[0].message["Message-ID"] == f"<{row.id}@shop.example>"


async def test_after_a_day_of_attempts_it_is_given_up_without_its_content(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.contents[TO] = "451 come again"
        await until_rows(own_runtime, tried(1))
        clock.move(hours=23, minutes=59, seconds=30)
        own_runtime.mailer.awake.set()
        (row,) = await until_rows(own_runtime, ended)
    assert row.failed_at
    assert row.body is None
    assert row.last_error == "the server refused the message: 451"
    assert own_runtime.mailer.counts.failed == 1


async def test_what_waited_for_a_sender_for_days_is_still_sent(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, MAIL)
    clock.move(days=3)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        (row,) = await until_rows(own_runtime, ended)
    assert row.sent_at
    assert server.taken


@pytest.mark.parametrize("stage", ["recipients", "contents"])
async def test_what_is_refused_for_good_is_given_up_at_once(
    own_runtime: Runtime, stage: str
) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        getattr(server, stage)[TO] = "550 5.1.1 no such user"
        (row,) = await until_rows(own_runtime, ended)
    assert (row.failed_at is not None, row.attempts, row.body) == (True, 1, None)


async def test_an_address_that_no_header_can_hold_is_given_up_at_once(
    own_runtime: Runtime,
) -> None:
    hostile = [
        "bob@example.com\r\nBcc: eve@example.com",
        "bob@example.com, eve@example.com",
        "bob@example.com> <eve@example.com",
        "@example.com",
        "bob",
        "bob@exam\x00ple.com",
        "b" * 300 + "@example.com",
    ]
    await write(own_runtime, *(replace(MAIL, to=each) for each in hostile))
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        found = await until_rows(own_runtime, ended)
    assert [row.last_error for row in found] == ["no message can be written to such an address"] * 7
    assert server.taken == []


async def test_a_connection_cut_after_the_final_dot_is_the_only_reason_to_send_again(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.cut.add(TO)
        await until_rows(own_runtime, tried(1))
        server.cut.clear()
        clock.move(minutes=1)
        own_runtime.mailer.awake.set()
        (row,) = await until_rows(own_runtime, ended)
        clock.move(days=1)
        own_runtime.mailer.awake.set()
    assert row.sent_at
    first, second = server.taken
    assert first.message["Message-ID"] == second.message["Message-ID"]
    assert first.message["Date"] == second.message["Date"]


async def test_a_silent_recipient_holds_up_no_other(own_runtime: Runtime) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.silent.add(TO)
        await until(lambda: server.to(TO))
        others = [replace(MAIL, to=f"{n}@example.com") for n in range(AT_ONCE + 5)]
        await write(own_runtime, *others)
        await until(lambda: len(server.taken) == len(others) + 1)
        server.answers.set()
        await until_rows(own_runtime, ended)
    assert len(server.taken) == len(others) + 1


async def test_a_server_that_is_away_is_tried_again(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, MAIL)
    async with sending(sender_of(own_runtime, 1)):
        (row,) = await until_rows(own_runtime, tried(1))
    assert row.last_error == "the server can't be reached"


async def test_a_server_that_does_not_greet_is_waited_for_so_long_and_no_longer(
    own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.smtp.GREETING", 0.05)
    await write(own_runtime, MAIL)
    async with silent_server() as port, sending(sender_of(own_runtime, port)):
        (row,) = await until_rows(own_runtime, tried(1))
    assert row.last_error == "the server did not answer in time"


async def test_five_an_hour_go_to_an_address_however_it_is_written_and_notices_besides(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    spellings = [TO, "Bob@Example.com", "BOB@EXAMPLE.COM"] * 3
    await write(own_runtime, *(replace(MAIL, to=each) for each in spellings))
    notice = Mail("address-changed", TO, VALUES, notice=True)
    await write(own_runtime, *[notice] * 3, replace(MAIL, to="carol@example.com"))
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        found = await until_rows(own_runtime, ended)
        assert [bool(row.sent_at) for row in found] == [True] * 5 + [False] * 4 + [True] * 4
        assert {row.last_error for row in found} == {None, OVER_LIMIT}
        assert all(row.body is None for row in found)
        assert own_runtime.mailer.counts.failed == 4
        clock.move(minutes=61)
        await write(own_runtime, MAIL)
        await until_rows(own_runtime, ended)
        assert len(server.taken) == 10


async def test_mails_that_are_tried_again_count_too(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, *[MAIL] * LIMIT)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.recipients[TO] = "451 come again"
        for times in range(1, 9):

            def all_tried(found: list[OutboxMail], times: int = times) -> bool:
                return all(row.attempts == times and not row.claimed_by for row in found)

            await until_rows(own_runtime, all_tried)
            if times < 8:
                clock.move(minutes=31)
                own_runtime.mailer.awake.set()
        await write(own_runtime, MAIL)
        found = await until_rows(own_runtime, lambda found: found[-1].failed_at)
        assert found[-1].last_error == OVER_LIMIT
        server.recipients.clear()
        clock.move(minutes=31)
        own_runtime.mailer.awake.set()
        await until_rows(own_runtime, ended)
        assert len(server.taken) == LIMIT


async def composed(work: Work[Actor], asked: Asked) -> Mail | None:
    """A composer: `alice` has an account, and each link is another."""
    assert work.actor == Actor(None, Origin("192.0.2.1", request_id="r"))
    if not asked.to.startswith("alice"):
        return None
    link = f"https://auth.example/reset#{uuid.uuid4()}"
    return Mail("reset-password", asked.to, {"username": "alice", "link": link})


async def ask(
    runtime: Runtime, to: str, mailer: Mailer | None = None, *, wish: str = "reset"
) -> None:
    asked = Asked(wish, to, {}, Origin("192.0.2.1", request_id="r"))
    async with runtime.work(Actor()) as work:
        (mailer or runtime.mailer).ask(work, asked)


async def test_what_is_asked_for_is_one_row_whoever_has_the_address(own_runtime: Runtime) -> None:
    for name in ("alice", "nadia"):
        await ask(own_runtime, f"{name}@example.com")
    before = await rows(own_runtime)
    assert len({len(row.body or "") for row in before}) == 1
    composers: dict[str, Composer] = {"reset": composed}
    async with mail_server() as server, sending(sender_of(own_runtime, server.port, composers)):
        found = await until_rows(own_runtime, ended)
    assert [each.recipient for each in server.taken] == ["alice@example.com"]
    shown = [(row.purpose, row.attempts, row.body, row.last_error, row.notice) for row in found]
    assert shown == [("reset", 1, None, None, False)] * 2
    assert all(row.sent_at for row in found)


async def test_only_what_became_a_mail_counts(own_runtime: Runtime) -> None:
    """Else a stranger could keep mails from an address by asking for what is not sent there."""
    for name in ("alice", "nadia"):
        for _ in range(LIMIT + 1):
            await ask(own_runtime, f"{name}@example.com")
    composers: dict[str, Composer] = {"reset": composed}
    async with mail_server() as server, sending(sender_of(own_runtime, server.port, composers)):
        found = await until_rows(own_runtime, ended)
        assert [bool(row.sent_at) for row in found[LIMIT + 1 :]] == [True] * (LIMIT + 1)
        assert sum(bool(row.sent_at) for row in found[: LIMIT + 1]) == LIMIT
        assert {row.last_error for row in found} == {None, OVER_LIMIT}
        await write(own_runtime, *[replace(MAIL, to="nadia@example.com")] * (LIMIT + 1))
        found = await until_rows(own_runtime, ended)
    assert len(server.to("alice@example.com")) == len(server.to("nadia@example.com")) == LIMIT


@pytest.mark.parametrize("wish", ["sign-up", "verify"])
async def test_what_strangers_ask_for_leaves_two_mails_an_hour_for_resets(
    own_runtime: Runtime, wish: str
) -> None:
    """Else they could keep a person from a forgotten password's reset for as long as they like."""
    for _ in range(LIMIT):
        await ask(own_runtime, "alice@example.com", wish=wish)
    composers: dict[str, Composer] = {wish: composed, "reset": composed}
    async with mail_server() as server, sending(sender_of(own_runtime, server.port, composers)):
        await until_rows(own_runtime, ended)
        for _ in range(3):
            await ask(own_runtime, "alice@example.com")
        found = await until_rows(own_runtime, ended)
        assert [row.purpose for row in found if row.sent_at] == [wish] * 3 + ["reset"] * 2
        assert len(server.to("alice@example.com")) == LIMIT


async def test_a_retry_sends_the_link_that_was_composed_first(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await ask(own_runtime, "alice@example.com")
    composers: dict[str, Composer] = {"reset": composed}
    async with mail_server() as server, sending(sender_of(own_runtime, server.port, composers)):
        server.cut.add("alice@example.com")
        await until_rows(own_runtime, tried(1))
        clock.move(minutes=1)
        own_runtime.mailer.awake.set()
        await until_rows(own_runtime, tried(2))
    first, second = [each.part("plain") for each in server.taken]
    assert first == second


async def test_what_a_composer_wrote_is_committed_with_the_mail_or_not_at_all(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    alice = await make_user(own_runtime)
    fails = True

    async def disabling(work: Work[Actor], asked: Asked) -> Mail | None:
        await work.db.execute(
            update(User).where(User.id == alice.id).values(password_hash="set by the composer")
        )
        if fails:
            raise ConnectionError
        return Mail("reset-password", asked.to, VALUES, user_id=alice.id)

    async def is_written() -> bool:
        async with own_runtime.reading() as db:
            user = await db.get(User, alice.id)
            return user is not None and user.password_hash == "set by the composer"

    await ask(own_runtime, "alice@example.com")
    composers: dict[str, Composer] = {"reset": disabling}
    async with mail_server() as server, sending(sender_of(own_runtime, server.port, composers)):
        (row,) = await until_rows(own_runtime, tried(1))
        assert row.last_error == "it could not be composed: ConnectionError"
        assert not await is_written()
        fails = False
        clock.move(minutes=1)
        own_runtime.mailer.awake.set()
        (row,) = await until_rows(own_runtime, ended)
    assert row.user_id == alice.id
    assert await is_written()
    assert len(server.taken) == 1


async def test_a_purpose_that_only_a_later_version_knows_waits_for_it(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await ask(own_runtime, "alice@example.com")
    async with mail_server() as server:
        earlier: dict[str, Composer] = {"verify": composed}
        async with sending(sender_of(own_runtime, server.port, earlier)):
            await until_rows(own_runtime, tried(1))
        clock.move(minutes=1)
        composers: dict[str, Composer] = {"reset": composed}
        async with sending(sender_of(own_runtime, server.port, composers)):
            await until_rows(own_runtime, ended)
        assert len(server.taken) == 1


async def test_the_mails_of_a_user_go_with_them_also_while_one_is_being_sent(
    own_runtime: Runtime,
) -> None:
    alice = await make_user(own_runtime)
    await write(own_runtime, replace(MAIL, user_id=alice.id))
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.silent.add(TO)
        await until(lambda: server.taken)
        async with own_runtime.work(Actor()) as work:
            await work.db.execute(delete(User).where(User.id == alice.id))
        server.answers.set()
        assert await rows(own_runtime) == []
        await write(own_runtime, replace(MAIL, to="carol@example.com"))
        await until_rows(own_runtime, ended)


async def test_content_of_another_secret_is_not_readable_and_waits_for_it(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    url = own_runtime.engine.url.render_as_string(hide_password=False)
    settings = settings_for(url)
    other = Mailer.of(settings, ["another-secret-0123456789-abcdefghijk"], {})
    both = Mailer.of(settings, [SECRET, "another-secret-0123456789-abcdefghijk"], {})
    await ask(own_runtime, "alice@example.com", mailer=other)
    async with mail_server() as server:
        async with sending(sender_of(own_runtime, server.port)):
            (row,) = await until_rows(own_runtime, tried(1))
        assert "SCOPEGATE_SECRET_KEYS" in str(row.last_error)
        clock.move(minutes=1)
        runtime = replace(own_runtime, mailer=both)
        async with sending(sender_of(runtime, server.port, {"reset": composed})):
            await until_rows(own_runtime, ended)
        assert len(server.taken) == 1


async def test_content_moved_to_another_row_is_not_sent(own_runtime: Runtime) -> None:
    await write(own_runtime, MAIL, replace(MAIL, to="carol@example.com"))
    first, second = await rows(own_runtime)
    async with own_runtime.work(Actor()) as work:
        moved = update(OutboxMail).where(OutboxMail.id == second.id).values(body=first.body)
        await work.db.execute(moved)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        await until_rows(own_runtime, lambda found: found[1].last_error)
    assert [each.recipient for each in server.taken] == [TO]


async def take(runtime: Runtime, process: uuid.UUID, most: int = 10) -> int:
    async with runtime.work(Actor()) as work:
        claimed, _ = await claim(work, process, most=most)
        return len(claimed)


async def test_one_process_at_a_time_has_claims_and_another_takes_over_when_they_end(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    await write(own_runtime, *(replace(MAIL, to=f"{n}@example.com") for n in range(3)))
    assert await take(own_runtime, one, most=1) == 1
    assert await take(own_runtime, other) == 0
    assert await take(own_runtime, one, most=1) == 1
    clock.move(seconds=claims.LEASE.total_seconds() + 1)
    assert await take(own_runtime, other) == 3
    assert await take(own_runtime, one) == 0


async def test_of_many_processes_that_claim_at_once_one_gets_each_mail(
    own_runtime: Runtime,
) -> None:
    for _ in range(20):
        await write(own_runtime, MAIL, replace(MAIL, to="carol@example.com"))
        taken = await asyncio.gather(*(take(own_runtime, uuid.uuid4()) for _ in range(8)))
        assert sum(taken) in {0, 2}
        async with own_runtime.work(Actor()) as work:
            await work.db.execute(delete(OutboxMail))


async def test_while_another_claims_nothing_is_claimed_or_waited_for(own_runtime: Runtime) -> None:
    await write(own_runtime, MAIL)
    async with own_runtime.work(Actor()) as work:
        await take_lock(work.db, Lock.MAIL)
        assert await take(own_runtime, uuid.uuid4()) == 0
    assert await take(own_runtime, uuid.uuid4()) == 1


async def test_a_clock_that_jumps_makes_no_process_send_its_own_mail_twice(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender := sender_of(own_runtime, server.port)):
        server.silent.add(TO)
        await until(lambda: server.taken)
        clock.move(minutes=5)
        await write(own_runtime, replace(MAIL, to="carol@example.com"))
        await until(lambda: server.to("carol@example.com"))
        await until(lambda: len(sender._deliveries) == 1)
        server.answers.set()
        await until_rows(own_runtime, ended)
    assert len(server.taken) == 2


async def test_a_claim_is_renewed_while_a_delivery_lasts(
    own_runtime: Runtime, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.sender.RENEW_INTERVAL", 0.02)
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.silent.add(TO)
        await until(lambda: server.taken)
        for _ in range(5):
            clock.move(seconds=20)
            await until_rows(
                own_runtime,
                lambda found: (
                    found[0].claimed_until
                    and found[0].claimed_until > clock() + timedelta(seconds=25)
                ),
            )
            assert await take(own_runtime, uuid.uuid4()) == 0
        server.answers.set()
        await until_rows(own_runtime, ended)
    assert len(server.taken) == 1


async def test_a_process_that_lost_its_claim_cancels_the_delivery(
    own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.sender.RENEW_INTERVAL", 0.02)
    await write(own_runtime, MAIL)
    sender = sender_of(own_runtime, 1)
    async with silent_server() as port, sending(sender := sender_of(own_runtime, port)):
        await until_rows(own_runtime, lambda found: found[0].claimed_by)
        async with own_runtime.work(Actor()) as work:
            await work.db.execute(update(OutboxMail).values(claimed_by=uuid.uuid4()))
        await until(lambda: not sender._deliveries)
    (row,) = await rows(own_runtime)
    assert (row.sent_at, row.failed_at, row.last_error) == (None, None, None)


async def test_a_process_that_cant_renew_in_time_cancels_the_delivery(
    own_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.sender.MARGIN", claims.LEASE.total_seconds() - 0.2)
    await write(own_runtime, MAIL)
    async with silent_server() as port, sending(sender := sender_of(own_runtime, port)):
        await until(lambda: sender._deliveries)
        await until(lambda: not sender._deliveries)
    (row,) = await rows(own_runtime)
    assert row.claimed_until, "another process waits for the end of the claim"


async def test_a_mail_that_ends_its_process_each_time_is_given_up_after_a_day(
    own_runtime: Runtime, clock: MovableClock
) -> None:
    await write(own_runtime, MAIL)
    attempts = 0
    while await take(own_runtime, uuid.uuid4()):
        attempts += 1
        (row,) = await rows(own_runtime)
        clock.move(seconds=max((row.due_at - clock()).total_seconds(), 30) + 1)
    (row,) = await rows(own_runtime)
    assert row.failed_at
    assert row.body is None
    assert row.last_error == claims.INTERRUPTED
    assert 45 < attempts < 60


async def test_an_acknowledged_mail_is_not_sent_again_when_the_database_is_away_meanwhile(
    own_runtime: Runtime, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server, sending(sender_of(own_runtime, server.port)):
        server.silent.add(TO)
        await until(lambda: server.taken)
        async with own_runtime.sessions.begin() as db:
            await db.execute(text("ALTER TABLE outbox RENAME TO away"))
        server.answers.set()
        await until(lambda: "can't be marked yet" in caplog.text)
        clock.move(seconds=2 * claims.LEASE.total_seconds())
        async with own_runtime.sessions.begin() as db:
            await db.execute(text("ALTER TABLE away RENAME TO outbox"))
        (row,) = await until_rows(own_runtime, ended)
    assert row.sent_at
    assert len(server.taken) == 1


async def test_an_end_of_the_process_waits_for_the_acknowledgement(own_runtime: Runtime) -> None:
    await write(own_runtime, MAIL)
    async with mail_server() as server:
        async with sending(sender_of(own_runtime, server.port)):
            server.silent.add(TO)
            await until(lambda: server.taken)
            asyncio.get_running_loop().call_later(0.3, server.answers.set)
        (row,) = await rows(own_runtime)
        assert row.sent_at


async def test_development_without_a_server_logs_mails(
    own_runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await write(own_runtime, MAIL)
    async with sending(sender_of(own_runtime, 1, smtp_url=None)):
        (row,) = await until_rows(own_runtime, ended)
    assert row.sent_at
    assert f"To: {TO}" in caplog.text
    assert LINK in caplog.text


async def test_production_without_a_server_writes_nothing_and_says_so_once(
    own_runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    url = own_runtime.engine.url.render_as_string(hide_password=False)
    settings = settings_for(url, environment="production")
    mailer = Mailer.of(settings, [SECRET], {})
    async with own_runtime.work(Actor()) as work:
        mailer.send(work, MAIL)
        mailer.ask(work, Asked("reset", TO, {}, NOWHERE))
    assert await rows(own_runtime) == []
    await write(own_runtime, MAIL)  # as it was written while there was a server
    sender = Sender(own_runtime.database, mailer, settings)
    async with sending(sender):
        await until(lambda: mailer.counts.waiting == 1)
        mailer.awake.set()
        await until(lambda: not mailer.awake.is_set())
    (row,) = await rows(own_runtime)
    assert row.attempts == 0
    assert caplog.text.count("SCOPEGATE_SMTP_URL is not set") == 1
