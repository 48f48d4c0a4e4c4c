"""`scopegate user …`: people and service accounts."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.accounts import (
    create_user,
    disable_account,
    replace_password,
    revoke_account_secret,
)
from app.access.authority import OPERATOR
from app.access.grants import grant
from app.access.holdings import grants_of, scopes_of_each
from app.access.scopes import require_registered
from app.api.schemas import GrantAnswer, SessionAnswer, UserAnswer
from app.cli import sessions
from app.cli.console import (
    AsJson,
    Force,
    Limit,
    Name,
    Yes,
    confirm,
    parse_id,
    read_password,
    run,
    show,
    show_list,
    table,
)
from app.identity.clients import NewSecret, create_service, make_secret, secrets_of
from app.identity.models import User
from app.identity.sessions import live_sessions
from app.identity.users import enable_user, get_user, list_users, rename_user
from app.runtime import Runtime

user = typer.Typer(
    help="Make, find, change, disable and import users; their passwords and secrets.",
    no_args_is_help=True,
)

Service = Annotated[bool, typer.Option("--service", help="A service account, with a secret.")]
GrantToo = Annotated[
    list[str] | None, typer.Option("--scope", help="Grant this scope too; may be repeated.")
]
Search = Annotated[str | None, typer.Option(help="Only names with this in them.")]
NewName = Annotated[str, typer.Argument(metavar="NEW_NAME", help="Their name from now on.")]
SecretId = Annotated[
    uuid.UUID, typer.Argument(parser=parse_id, metavar="SECRET_ID", help="Which secret.")
]

SESSIONS_SHOWN = 20


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
                    session,
                    runtime.hasher,
                    username=name,
                    password=password,
                    by=OPERATOR,
                    clock=runtime.now,
                )
                shown = {}
            await require_registered(session, set(scopes))
            for each in scopes:
                await grant(session, user_id=made.id, scope=each, by=OPERATOR, now=runtime.now())
        return {**UserAnswer.of(made).model_dump(), "granted": scopes, **shown}

    made = run(work)
    text = f"Made {made['username']} ({made['id']})"
    show(made, as_json, f"{text}\n{_secret_text(made)}" if service else text)


@user.command("list")
def user_list(search: Search = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Users, oldest first, with what they are granted."""

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        async with runtime.unit_of_work() as session:
            users = await list_users(session, name=search, limit=limit + 1)
            held = await scopes_of_each(session, [each.id for each in users], now=runtime.now())
        return [{**UserAnswer.of(each).model_dump(), "granted": held[each.id]} for each in users]

    show_list(run(work), ["username", "kind", "disabled", "granted"], limit=limit, as_json=as_json)


@user.command("show")
def user_show(name: Name, as_json: AsJson = False) -> None:
    """One user: what they are granted and until when, where they are signed in, their secrets."""

    async def work(runtime: Runtime) -> dict[str, Any]:
        now = runtime.now()
        async with runtime.unit_of_work() as session:
            found = await get_user(session, name)
            held = await grants_of(session, found.id, now=now)
            signed_in = await live_sessions(
                session, found.id, after=None, limit=SESSIONS_SHOWN, now=now
            )
            secrets = await secrets_of(session, found.id)
        return {
            **UserAnswer.of(found).model_dump(),
            "grants": [GrantAnswer.model_validate(each).model_dump() for each in held],
            "sessions": [SessionAnswer.model_validate(each).model_dump() for each in signed_in],
            "secrets": [{"secret_id": each.id, "created_at": each.created_at} for each in secrets],
        }

    found = run(work)
    parts = [
        table([found], ["id", "username", "kind", "disabled", "created_at"]),
        table(found["grants"], ["scope", "granted_at", "expires_at", "reason"]),
        table(found["sessions"], sessions.COLUMNS),
        table(found["secrets"], ["secret_id", "created_at"]),
    ]
    show(found, as_json, "\n\n".join(parts if found["kind"] == "service" else parts[:-1]))
    if len(found["sessions"]) == SESSIONS_SHOWN:
        typer.echo(f"More sessions, if any: scopegate session list {name}", err=True)


@user.command("rename")
def user_rename(name: Name, new_name: NewName) -> None:
    """Give a person another name. A service account's stays: it is its client_id."""

    async def work(session: AsyncSession, found: User, _: Runtime) -> None:
        await rename_user(session, found, username=new_name, by=OPERATOR)

    typer.echo(f"Renamed {name} to {_with_user(name, work)}")


@user.command("disable")
def user_disable(name: Name, force: Force = False, yes: Yes = False) -> None:
    """No login and no token of this user counts any more."""
    confirm(f"Disabling {name} ends all their sessions", yes=yes)

    async def work(session: AsyncSession, found: User, runtime: Runtime) -> None:
        await disable_account(session, found.id, by=OPERATOR, now=runtime.now(), force=force)

    typer.echo(f"Disabled {_with_user(name, work)}: all their sessions have ended")


@user.command("enable")
def user_enable(name: Name) -> None:
    """The user may sign in again; no old token comes back."""

    async def work(session: AsyncSession, found: User, _: Runtime) -> None:
        await enable_user(session, found.id, by=OPERATOR)

    typer.echo(f"Enabled {_with_user(name, work)}")


@user.command("password")
def user_password(name: Name) -> None:
    """Set a person's password, asked for or read from standard input. All their sessions end."""
    password = read_password()

    async def work(runtime: Runtime) -> str:
        async with runtime.unit_of_work() as session:
            found = await get_user(session, name)
        await replace_password(
            runtime.sessions,
            runtime.hasher,
            user_id=found.id,
            password=password,
            by=OPERATOR,
            clock=runtime.now,
        )
        return found.username

    typer.echo(f"Set the password of {run(work)}: all their sessions have ended")


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
def user_revoke_secret(
    name: Name, secret_id: SecretId, force: Force = False, yes: Yes = False
) -> None:
    """Revoke a service account's secret."""
    confirm(f"Revoking a secret of {name} locks out whoever uses it", yes=yes)

    async def work(session: AsyncSession, found: User, runtime: Runtime) -> None:
        now = runtime.now()
        await revoke_account_secret(session, found.id, secret_id, by=OPERATOR, now=now, force=force)

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
