"""`scopegate user …`: people and service accounts."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.authority import OPERATOR, disable_account
from app.access.grants import grant
from app.access.holdings import in_force
from app.access.models import Grant
from app.cli.console import AsJson, Force, Name, read_password, run, show, table
from app.identity.clients import NewSecret, create_service, make_secret, revoke_secret
from app.identity.models import User
from app.identity.users import create_user, enable_user, get_user, list_users
from app.runtime import Runtime

user = typer.Typer(help="Make, list, disable and enable users.", no_args_is_help=True)

Service = Annotated[bool, typer.Option("--service", help="A service account, with a secret.")]
GrantToo = Annotated[
    list[str] | None, typer.Option("--scope", help="Grant this scope too; may be repeated.")
]
SecretId = Annotated[uuid.UUID, typer.Argument(metavar="SECRET_ID", help="Which secret.")]


@user.command("create")
def user_create(
    name: Name, scope: GrantToo = None, service: Service = False, as_json: AsJson = False
) -> None:
    """Make a user. The password is asked for, or read from standard input."""
    scopes = sorted(scope or [])
    password = "" if service else read_password()

    async def work(runtime: Runtime) -> dict[str, Any]:
        async with runtime.unit_of_work() as session:
            if service:
                made, secret = await create_service(session, username=name, by=OPERATOR)
                shown = _shown(made, secret)
            else:
                made = await create_user(
                    session, runtime.hasher, username=name, password=password, by=OPERATOR
                )
                shown = {}
            for each in scopes:
                await grant(session, user_id=made.id, scope=each, by=OPERATOR, now=runtime.now())
        return {"id": str(made.id), "username": made.username, "granted": scopes, **shown}

    made = run(work)
    text = f"Made {made['username']} ({made['id']})"
    show(made, as_json, f"{text}\n{_secret_text(made)}" if service else text)


@user.command("list")
def user_list(as_json: AsJson = False) -> None:
    """All users, with what they are granted."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        async with runtime.unit_of_work() as session:
            users = await list_users(session)
            held: dict[uuid.UUID, list[str]] = {}
            counting = select(Grant).where(in_force(runtime.now())).order_by(Grant.scope)
            for each in await session.scalars(counting):
                held.setdefault(each.user_id, []).append(each.scope)
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

    users = run(work)
    show(users, as_json, table(users, ["username", "kind", "disabled", "granted"]))


@user.command("disable")
def user_disable(name: Name, force: Force = False) -> None:
    """No login and no token of this user counts any more."""

    async def work(session: AsyncSession, found: User, runtime: Runtime) -> None:
        await disable_account(session, found.id, by=OPERATOR, now=runtime.now(), force=force)

    typer.echo(f"Disabled {_with_user(name, work)}: all their sessions have ended")


@user.command("enable")
def user_enable(name: Name) -> None:
    """The user may sign in again; no old token comes back."""

    async def work(session: AsyncSession, found: User, _: Runtime) -> None:
        await enable_user(session, found.id, by=OPERATOR)

    typer.echo(f"Enabled {_with_user(name, work)}")


@user.command("secret")
def user_secret(name: Name, as_json: AsJson = False) -> None:
    """Make a second live secret for a service account, to change over to."""

    async def work(runtime: Runtime) -> dict[str, Any]:
        async with runtime.unit_of_work() as session:
            found = await get_user(session, name)
            return _shown(found, await make_secret(session, user_id=found.id, by=OPERATOR))

    made = run(work)
    show(made, as_json, _secret_text(made))


@user.command("revoke-secret")
def user_revoke_secret(name: Name, secret_id: SecretId) -> None:
    """A service account's secret works no more."""

    async def work(session: AsyncSession, found: User, _: Runtime) -> None:
        await revoke_secret(session, user_id=found.id, secret_id=secret_id, by=OPERATOR)

    typer.echo(f"Revoked a secret of {_with_user(name, work)}")


def _with_user(name: str, work: Callable[[AsyncSession, User, Runtime], Awaitable[None]]) -> str:
    """Do it to the user of that name; the name as it is kept."""

    async def in_unit_of_work(runtime: Runtime) -> str:
        async with runtime.unit_of_work() as session:
            found = await get_user(session, name)
            await work(session, found, runtime)
            return found.username

    return run(in_unit_of_work)


def _shown(service: User, secret: NewSecret) -> dict[str, str]:
    return {
        "client_id": service.username,
        "client_secret": secret.value,
        "secret_id": str(secret.id),
    }


def _secret_text(made: dict[str, Any]) -> str:
    return (
        f"client_id {made['client_id']}, client_secret {made['client_secret']} (shown once), "
        f"secret id {made['secret_id']}"
    )
