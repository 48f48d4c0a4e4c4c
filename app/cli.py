"""The operator's front door: `scopegate`. Every command calls the function that the API calls."""

import asyncio
import getpass
import json
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
import uvicorn
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.access.grants import grant as grant_scope
from app.access.grants import revoke as revoke_scope
from app.access.models import Grant
from app.access.scopes import ADMIN, registered_scopes
from app.db.engine import open_engine
from app.db.schema import migrator_settings, upgrade
from app.errors import ScopegateError
from app.identity.users import create_user, find_user, get_user, list_users
from app.runtime import Runtime
from app.settings import Settings

FIRST_ADMIN = "admin"

T = TypeVar("T")

cli = typer.Typer(
    name="scopegate",
    help="Users, scopes and tokens: run the service and administer it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
user = typer.Typer(help="Make and list users.", no_args_is_help=True)
scope = typer.Typer(help="List the scopes that there are.", no_args_is_help=True)
cli.add_typer(user, name="user")
cli.add_typer(scope, name="scope")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
Scopes = Annotated[list[str], typer.Argument(metavar="SCOPE…", help="One scope, or several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def main() -> None:
    """Run a command; whatever an operator can mend is one line on stderr and exit code 1."""
    try:
        cli()
    except ValidationError as error:
        for problem in error.errors():
            setting = "".join(f"SCOPEGATE_{str(part).upper()}: " for part in problem["loc"])
            _complain(setting + problem["msg"].removeprefix("Value error, "))
    except ScopegateError as error:
        _complain(str(error))
    except (OSError, SQLAlchemyError) as error:
        _complain(f"the database does not answer: {str(error).splitlines()[0]}")


@cli.command()
def serve(
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve.")] = 1,
) -> None:
    """Serve the API, on SCOPEGATE_HOST and SCOPEGATE_PORT."""
    settings = Settings()
    # What would stop a worker is said here, once, as one line.
    _run(_nothing)
    typer.echo(f"Scopegate: serving at {settings.token_issuer}, documentation at /docs")
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        # A query string can hold a password that somebody sent there by mistake.
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="warning",
    )


@cli.command()
def migrate(
    first_admin: Annotated[
        bool, typer.Option(help=f"Also make the user {FIRST_ADMIN!r}, if there is no such user.")
    ] = False,
) -> None:
    """Bring the database up to this version. Several may run at once: one works, the rest wait."""

    async def work() -> None:
        async with open_engine(migrator_settings(Settings())) as engine:
            await upgrade(engine)

    asyncio.run(work())
    typer.echo("Scopegate: the database is up to date")
    if first_admin:
        _run(_make_first_admin)


@user.command("create")
def user_create(
    name: Name,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="Grant this scope too; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a person. The password is asked for, or read from standard input."""
    password = _read_password()

    async def work(runtime: Runtime) -> dict[str, Any]:
        async with runtime.unit_of_work() as session:
            made = await create_user(session, runtime.hasher, username=name, password=password)
            for each in scopes or []:
                await grant_scope(session, user_id=made.id, scope=each)
        return {"id": str(made.id), "username": made.username, "granted": sorted(scopes or [])}

    made = _run(work)
    _print(made, as_json, f"Made {made['username']} ({made['id']})")


@user.command("list")
def user_list(as_json: AsJson = False) -> None:
    """All users, with what they are granted."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        async with runtime.unit_of_work() as session:
            users = await list_users(session)
            held: dict[Any, list[str]] = {}
            for grant in await session.scalars(select(Grant).order_by(Grant.scope)):
                held.setdefault(grant.user_id, []).append(grant.scope)
        return [
            {
                "id": str(each.id),
                "username": each.username,
                "kind": each.kind,
                "disabled": each.disabled_at is not None,
                "granted": held.get(each.id, []),
            }
            for each in users
        ]

    users = _run(work)
    _print(users, as_json, _table(users, ["username", "kind", "disabled", "granted"]))


@cli.command()
def grant(name: Name, scopes: Scopes) -> None:
    """Grant scopes to a user. Again is the same."""

    async def work(runtime: Runtime) -> str:
        async with runtime.unit_of_work() as session:
            holder = await get_user(session, name)
            for each in scopes:
                await grant_scope(session, user_id=holder.id, scope=each)
            return holder.username

    typer.echo(f"Granted to {_run(work)}: {' '.join(scopes)}")


@cli.command()
def revoke(name: Name, scopes: Scopes) -> None:
    """Take scopes back from a user. Tokens already out lose them too."""

    async def work(runtime: Runtime) -> tuple[str, list[str]]:
        async with runtime.unit_of_work() as session:
            holder = await get_user(session, name)
            removed = [
                each
                for each in scopes
                if await revoke_scope(session, user_id=holder.id, scope=each)
            ]
            return holder.username, removed

    holder, removed = _run(work)
    typer.echo(f"Revoked from {holder}: {' '.join(removed) or 'nothing, none was held'}")


@scope.command("list")
def scope_list(as_json: AsJson = False) -> None:
    """Every scope that can be granted."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        async with runtime.unit_of_work() as session:
            return [
                {"name": each.name, "description": each.description}
                for each in await registered_scopes(session)
            ]

    scopes = _run(work)
    _print(scopes, as_json, _table(scopes, ["name", "description"]))


async def _make_first_admin(runtime: Runtime) -> None:
    async with runtime.unit_of_work() as session:
        if await find_user(session, FIRST_ADMIN):
            return
        chosen = runtime.settings.admin_password
        password = chosen.get_secret_value() if chosen else secrets.token_urlsafe(16)
        admin = await create_user(session, runtime.hasher, username=FIRST_ADMIN, password=password)
        await grant_scope(session, user_id=admin.id, scope=ADMIN)
    # Only now that it is committed, and only when nobody knows it yet.
    typer.echo(
        f"Scopegate: made the user {FIRST_ADMIN}, "
        + ("with the password that was set" if chosen else f"password {password} (shown once)")
    )


async def _nothing(_: Runtime) -> None:
    """Open the runtime, and that is all."""


def _run(work: Callable[[Runtime], Awaitable[T]]) -> T:
    async def with_runtime() -> T:
        async with Runtime.open(Settings()) as runtime:
            return await work(runtime)

    return asyncio.run(with_runtime())


def _read_password() -> str:
    """From the terminal, typed twice and not shown; else the first line of standard input.

    Never an argument: those can be read by every user of the machine.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise ScopegateError("The two are not the same: try again")
    return password


def _print(rows: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(rows, indent=2) if as_json else text)


def _table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    cells = [columns] + [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)


def _complain(text: str) -> None:
    typer.echo(f"scopegate: {text}", err=True)
    raise SystemExit(1)
