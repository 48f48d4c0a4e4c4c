"""The first admin, and the file with their first password."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from app.cli.console import operator

if TYPE_CHECKING:
    from app.runtime import Runtime

FIRST_ADMIN = "admin"
NO_LONGER = (
    f"The user {FIRST_ADMIN} no longer has the password that was here: "
    f"scopegate user password {FIRST_ADMIN} sets another one"
)
"""What the file says instead of a password that no longer counts. No password itself."""


async def make_first_admin(runtime: Runtime, *, password_was_generated: bool) -> None:
    """Make the first admin if there are no users at all; else say if its password has changed.

    Only a file whose password was generated is ever changed: an operator's own file is not.
    """
    from app.access.accounts import create_person, prepare_person
    from app.access.grants import grant
    from app.access.scopes import ADMIN
    from app.identity.users import UsernameTaken, list_users

    async with runtime.reading() as db:
        # Not only without a user of that name: an admin who was renamed or disabled must not
        # come back with the password that they had at first.
        has_users = bool(await list_users(db, limit=1))
    if has_users:
        await _report_old_password(runtime, replace=password_was_generated)
        return
    chosen = runtime.settings.admin_password
    if chosen and chosen.get_secret_value() == NO_LONGER:
        chosen = None
    password = chosen.get_secret_value() if chosen else secrets.token_urlsafe(16)
    try:
        person = await prepare_person(
            runtime.hasher, username=FIRST_ADMIN, password=password, caller=operator()
        )
        async with runtime.work(operator()) as work:
            admin = await create_person(work, person)
            await grant(work, admin.id, ADMIN)
    except UsernameTaken:
        return  # By another migration, a moment ago.
    # Only now that it is committed, and only when it is new.
    typer.echo(
        f"Scopegate: made the user {FIRST_ADMIN}, "
        + ("with the password that was set" if chosen else f"password {password} (shown once)")
    )


async def _report_old_password(runtime: Runtime, *, replace: bool) -> None:
    """Say when the password of SCOPEGATE_ADMIN_PASSWORD_FILE no longer counts.

    With `replace`, the file says so too, instead of the password.
    """
    from app.identity.users import find_user

    file = runtime.settings.admin_password_file
    if file is None or not file.is_file() or (password := file.read_text().strip()) == NO_LONGER:
        return
    async with runtime.reading() as db:
        admin = await find_user(db, FIRST_ADMIN)
    known = admin.password_hash if admin and admin.disabled_at is None else None
    counts, _ = await runtime.hasher.verify(password, known)
    if counts:
        return
    typer.echo(f"Scopegate: {FIRST_ADMIN} no longer has the password in {file}")
    if replace:
        with suppress(OSError):  # On a volume that is mounted read-only, say.
            file.write_text(NO_LONGER + "\n")
