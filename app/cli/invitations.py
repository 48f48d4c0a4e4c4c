"""`scopegate user email` and `scopegate user invite`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import Name, Output, operator

if TYPE_CHECKING:
    from app.access.password_links import Invitation
    from app.runtime import Runtime

NewEmail = Annotated[
    str, typer.Argument(metavar="ADDRESS", help='Their e-mail address from now on; "" is none.')
]


async def user_email(runtime: Runtime, name: Name, address: NewEmail) -> str:
    """Give a person another e-mail address. They are mailed a link to confirm it."""
    from app.access import accounts
    from app.identity.users import get_user

    async with runtime.work(operator()) as work:
        user = await get_user(work.db, name)
        await accounts.change_address(work, runtime.letters, user.id, address or None)
    return f"{user.username} has " + ("a new address, to be confirmed" if address else "no address")


async def user_invite(runtime: Runtime, name: Name) -> Output:
    """Make a link by which a person sets their password. It is mailed too, if they have an address.

    It is open for 7 days.
    """
    from app.access.password_links import invite
    from app.identity.users import get_user

    async with runtime.work(operator()) as work:
        user = await get_user(work.db, name)
        made = await invite(work, runtime.letters, user.id)
    return invitation_output(made, {"username": user.username}, f"Invited {user.username}")


def invitation_output(invitation: Invitation, found: dict[str, Any], text: str) -> Output:
    """A person's link, which is shown once."""
    shown = {"link": invitation.url, "expires_at": invitation.expires_at}
    until = f"{invitation.expires_at:%Y-%m-%d %H:%M} UTC"
    return Output({**found, **shown}, f"{text}: open until {until}, shown once\n{invitation.url}")
