"""The operator's command, `scopegate`. It calls the same functions as the API."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.audit import audit
from app.cli.clients import client
from app.cli.commands import command
from app.cli.console import end_progress, refuse_what_is_not_utf8, show_progress
from app.cli.doctor import doctor
from app.cli.first_admin import FIRST_ADMIN, make_first_admin
from app.cli.grants import grant, revoke
from app.cli.imports import user_import
from app.cli.invitations import user_email, user_invite
from app.cli.keys import key
from app.cli.mail import mail
from app.cli.recovery import recover
from app.cli.scopes import scope
from app.cli.sessions import session
from app.cli.tokens import token
from app.cli.users import user

if TYPE_CHECKING:
    from app.runtime import Runtime

cli = typer.Typer(
    name="scopegate",
    help="Users, scopes and tokens: run the service and administer it.",
    epilog="Exit codes: 0 done; 1 it could not be done, and stderr says why; 2 wrong usage; "
    "3 done in part: user import refused some rows.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
command(user, "import")(user_import)
command(user, "email")(user_email)
command(user, "invite")(user_invite)
cli.add_typer(user, name="user")
command(cli, "grant")(grant)
command(cli, "revoke")(revoke)
cli.add_typer(scope, name="scope")
cli.add_typer(client, name="client")
cli.add_typer(session, name="session")
cli.add_typer(token, name="token")
command(cli, "audit")(audit)
cli.add_typer(key, name="key")
cli.add_typer(mail, name="mail")
cli.command()(doctor)
cli.command()(recover)


def main() -> None:
    """Run a command. An error that an operator can fix is one line on stderr and exit code 1."""
    # Started without one, as by `<&-`, there is nothing to read.
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BytesIO())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name may have characters that the terminal lacks.
            stream.reconfigure(errors="backslashreplace")
    try:
        cli()
    except Exception as error:
        from app.cli.waiting import problem_of

        problem = problem_of(error)
        if problem is None:
            raise
        typer.echo(f"scopegate: {problem}", err=True)
        raise SystemExit(1) from None
    finally:
        # Python's last collections would look at all that was imported, which takes 0.1 s, to free
        # what the system takes back anyway.
        gc.freeze()


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"scopegate {version('scopegate')}")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Users, scopes and tokens: run the service and administer it."""


@cli.command()
def serve(
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve.")] = 1,
) -> None:
    """Serve the API, on SCOPEGATE_HOST and SCOPEGATE_PORT.

    Wait SCOPEGATE_DATABASE_WAIT seconds for a database that takes writes, and say so.
    """
    from app.server.memory import kept_for_good, share_one_heap

    share_one_heap()
    with kept_for_good():
        from app.cli.waiting import wait_for_database
        from app.main import create_app
        from app.runtime import Runtime
        from app.server.serving import serve as serve_until_stopped
        from app.settings import Settings

    settings = Settings()

    async def open_once() -> None:
        async with Runtime.open(settings):
            pass

    # A problem that would stop every worker is reported here, once, in one line.
    wait_for_database(
        lambda: asyncio.run(open_once()), seconds=settings.database_wait.total_seconds()
    )
    serve_until_stopped(settings, create_app, workers=workers)


@cli.command()
def migrate(
    first_admin: Annotated[
        bool,
        typer.Option(help=f"Also make the user {FIRST_ADMIN!r}, if there are no users at all."),
    ] = False,
    password_was_generated: Annotated[
        bool,
        typer.Option(
            help="SCOPEGATE_ADMIN_PASSWORD_FILE was generated: "
            "when its password no longer counts, replace it by a note."
        ),
    ] = False,
    grant_to: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Also grant this database role what the service needs."),
    ] = None,
) -> None:
    """Bring the database up to this version. Several may run at once: one works, the rest wait.

    Also puts back triggers that are missing, off or altered.
    """
    refuse_what_is_not_utf8({"grant_to": grant_to})
    from sqlalchemy.ext.asyncio import async_sessionmaker

    from app.db.engine import open_engine
    from app.db.migrating import migrator_settings, restore, upgrade
    from app.db.rights import grant_rights
    from app.identity.users import fill_in_all_skeletons
    from app.runtime import Runtime
    from app.settings import Settings

    async def work(settings: Settings) -> None:
        async with open_engine(migrator_settings(settings), creating=True) as engine:
            await upgrade(engine)
            await restore(engine)
            await fill_in_all_skeletons(async_sessionmaker(engine))
            if grant_to:
                async with engine.begin() as connection:
                    await grant_rights(connection, grant_to)
        typer.echo("Scopegate: the database is up to date")
        if first_admin:
            async with Runtime.open(settings) as runtime:
                await make_first_admin(runtime, password_was_generated=password_was_generated)

    asyncio.run(work(Settings()))


@command(cli, "prune")
async def prune(runtime: Runtime) -> str:
    """Delete what has expired.

    A serving process does this by itself from time to time.
    """
    from app.ops.housekeeping import prune as clear_away

    removed: dict[str, int] = {}

    def report(name: str, count: int) -> None:
        removed[name] = removed.get(name, 0) + count
        show_progress(f"{name}: {removed[name]} removed")
        if count == 0:
            end_progress()

    if not await clear_away(
        runtime.sessions,
        now=runtime.now(),
        kept=runtime.settings.ended_sessions_kept,
        audit_kept=runtime.settings.audit_kept,
        report=report,
    ):
        return "Another process is already pruning: nothing to do"
    return "Removed " + ", ".join(f"{count} {name}" for name, count in removed.items())
