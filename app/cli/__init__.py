"""The operator's command, `scopegate`. It calls the same functions as the API."""

import asyncio
import secrets
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import async_sessionmaker

from app.access.accounts import create_person, prepare_person
from app.access.authority import OPERATOR
from app.access.grants import grant as grant_scope
from app.access.scopes import ADMIN
from app.cli.audit import audit
from app.cli.console import end_progress, problem_with_settings, run, show_progress
from app.cli.doctor import doctor
from app.cli.grants import grant, revoke
from app.cli.imports import user_import
from app.cli.keys import key
from app.cli.recovery import recover
from app.cli.scopes import scope
from app.cli.sessions import session
from app.cli.users import user
from app.cli.waiting import explain, wait_for_database
from app.db.engine import DATABASE_GONE, open_engine
from app.db.rights import grant_rights
from app.errors import ScopegateError
from app.identity.users import UsernameTaken, fill_in_all_skeletons, list_users
from app.ops.housekeeping import prune as clear_away
from app.runtime import Runtime
from app.server.memory import share_one_heap
from app.settings import Settings

FIRST_ADMIN = "admin"

cli = typer.Typer(
    name="scopegate",
    help="Users, scopes and tokens: run the service and administer it.",
    epilog="Exit codes: 0 done; 1 it could not be done, and stderr says why; 2 wrong usage; "
    "3 done in part: user import refused some rows.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
user.command("import")(user_import)
cli.add_typer(user, name="user")
cli.command()(grant)
cli.command()(revoke)
cli.add_typer(scope, name="scope")
cli.add_typer(session, name="session")
cli.command()(audit)
cli.add_typer(key, name="key")
cli.command()(doctor)
cli.command()(recover)


def main() -> None:
    """Run a command. An error that an operator can fix is one line on stderr and exit code 1."""
    try:
        cli()
    except ValidationError as error:
        _complain(problem_with_settings(error))
    except ScopegateError as error:
        _complain(str(error))
    except UnicodeDecodeError:
        _complain("the settings in .env are not UTF-8")
    except (*DATABASE_GONE, SQLAlchemyError) as error:
        _complain(explain(error))


@cli.command()
def serve(
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve.")] = 1,
) -> None:
    """Serve the API, on SCOPEGATE_HOST and SCOPEGATE_PORT.

    Wait SCOPEGATE_DATABASE_WAIT seconds for a database that takes writes, and say so.
    """
    share_one_heap()
    # Imported here, so that the other commands start sooner, without FastAPI and uvicorn.
    from app.main import create_app
    from app.server.serving import serve as serve_until_stopped

    settings = Settings()
    # A problem that would stop every worker is reported here, once, in one line.
    wait_for_database(lambda: run(_nothing), seconds=settings.database_wait.total_seconds())
    serve_until_stopped(settings, create_app, workers=workers)


@cli.command()
def migrate(
    first_admin: Annotated[
        bool,
        typer.Option(help=f"Also make the user {FIRST_ADMIN!r}, if there are no users at all."),
    ] = False,
    grant_to: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Also grant this database role what the service needs."),
    ] = None,
) -> None:
    """Bring the database up to this version. Several may run at once: one works, the rest wait.

    Also puts back triggers that are missing, off or altered.
    """
    # Imported here: no other command needs Alembic, and without it the service starts sooner and
    # uses less memory.
    from app.db.migrating import migrator_settings, restore, upgrade

    async def work() -> None:
        async with open_engine(migrator_settings(Settings())) as engine:
            await upgrade(engine)
            await restore(engine)
            await fill_in_all_skeletons(async_sessionmaker(engine))
            if grant_to:
                async with engine.begin() as connection:
                    await grant_rights(connection, grant_to)

    asyncio.run(work())
    typer.echo("Scopegate: the database is up to date")
    if first_admin:
        run(_make_first_admin)


@cli.command()
def prune() -> None:
    """Clear away what has expired; a serving process does this by itself every now and then."""
    removed: dict[str, int] = {}

    def report(name: str, count: int) -> None:
        removed[name] = removed.get(name, 0) + count
        show_progress(f"{name}: {removed[name]} removed")
        if count == 0:
            end_progress()

    async def act(runtime: Runtime) -> bool:
        return await clear_away(
            runtime.sessions,
            now=runtime.now(),
            kept=runtime.settings.ended_sessions_kept,
            audit_kept=runtime.settings.audit_kept,
            report=report,
        )

    if not run(act):
        typer.echo("Another process is already pruning: nothing to do")
        return
    typer.echo("Removed " + ", ".join(f"{count} {name}" for name, count in removed.items()))


async def _make_first_admin(runtime: Runtime) -> None:
    async with runtime.sessions() as db:
        # Not only without a user of that name: an admin who was renamed or disabled must not
        # come back with the password that they had at first.
        if await list_users(db, limit=1):
            return
    chosen = runtime.settings.admin_password
    password = chosen.get_secret_value() if chosen else secrets.token_urlsafe(16)
    try:
        person = await prepare_person(
            runtime.hasher, username=FIRST_ADMIN, password=password, caller=OPERATOR
        )
        async with runtime.work(OPERATOR) as work:
            admin = await create_person(work, person)
            await grant_scope(work, admin.id, ADMIN)
    except UsernameTaken:
        return  # By another migration, a moment ago.
    # Only now that it is committed, and only when it is new.
    typer.echo(
        f"Scopegate: made the user {FIRST_ADMIN}, "
        + ("with the password that was set" if chosen else f"password {password} (shown once)")
    )


async def _nothing(_: Runtime) -> None:
    """Open the runtime, and that is all."""


def _complain(text: str) -> None:
    typer.echo(f"scopegate: {text}", err=True)
    raise SystemExit(1)
