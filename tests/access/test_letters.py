"""Which account a mail with a link is for, as the sender finds out when it composes it."""

from app.access.accounts import change_address
from app.access.letters import charge
from app.db.work import NOWHERE, Actor, Origin
from app.identity.address_writes import set_unverified_address
from app.identity.requests import AskedTooOften
from app.mail.addresses import parse_address
from app.mail.outbox import Asked, Mail
from app.runtime import Runtime
from tests.support.factories import OPERATOR, make_user
from tests.support.letters import ADDRESS, delivered


async def compose(runtime: Runtime, **values: str) -> Mail | None:
    """The mail for a wish to confirm the address."""
    async with runtime.work(OPERATOR) as work:
        asked = Asked("verify", ADDRESS, values, NOWHERE)
        return await runtime.mailer.composers["verify"](work, asked)


async def test_a_link_is_for_the_account_that_it_was_asked_for_though_a_newer_one_waits(
    runtime: Runtime,
) -> None:
    """A manager gives an account an address for which a stranger's account waits as well."""
    older, newer = await make_user(runtime), await make_user(runtime)
    async with runtime.work(OPERATOR) as work:
        await set_unverified_address(work, newer.id, parse_address(ADDRESS))
    async with runtime.work(OPERATOR) as work:
        await change_address(work, runtime.letters, older.id, ADDRESS)
    assert [each.user_id for each in await delivered(runtime)] == [older.id]
    # A wish that names no account is for the newest.
    for values in ({}, {"username": ""}):
        mail = await compose(runtime, **values)
        assert mail is not None
        assert mail.user_id == newer.id


async def test_a_network_that_asks_too_often_stops_no_other(runtime: Runtime) -> None:
    async def may_ask(network: str, number: int) -> bool:
        address = parse_address(f"x{number}@example.com")
        try:
            await charge(runtime.guard, "reset", address, actor=Actor(None, Origin(network)))
        except AskedTooOften:
            return False
        return True

    assert not all([await may_ask("192.0.2.1", number) for number in range(40)])
    assert await may_ask("198.51.100.1", 40)
