"""`scopegate user …`: people and service accounts."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import sessions
from app.cli.console import (
    AsJson,
    Force,
    Limit,
    Name,
    Yes,
    change,
    confirm,
    operator,
    parse_id,
    read_password,
    run,
    show,
    show_list,
    table,
)
from app.errors import ScopegateError

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.identity.clients import NewSecret
    from app.identity.models import User
    from app.runtime import Runtime

user = typer.Typer(
    help="Make, find, change, disable and import users.",
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
SECRET_COLUMNS = ["secret_id", "created_at"]


@user.command("create")
def user_create(
    name: Name, scope: GrantToo = None, service: Service = False, as_json: AsJson = False
) -> None:
    """Make a user. The password is asked for, or read from standard input."""
    scopes = sorted(scope or [])
    password = "" if service else read_password()

    async def act(runtime: Runtime) -> dict[str, Any]:
        from app.access import accounts
        from app.access.grants import grant
        from app.access.scopes import require_registered
        from app.views import UserAnswer

        person = None
        if not service:
            person = await accounts.prepare_person(
                runtime.hasher, username=name, password=password, caller=operator()
            )
        shown = {}
        async with runtime.work(operator()) as work:
            if person:
                made = await accounts.create_person(work, person)
            else:
                made, secret = await accounts.create_service(work, username=name)
                shown = _shown(made, secret)
            await require_registered(work.db, set(scopes))
            for each in scopes:
                await grant(work, made.id, each)
        return {**UserAnswer.of(made).model_dump(), "granted": scopes, **shown}

    made = run(act)
    text = f"Made {made['username']} ({made['id']})"
    show(made, as_json, f"{text}\n{_secret_text(made)}" if service else text)


@user.command("list")
def user_list(search: Search = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Users, newest first, with what they are granted."""

    async def act(runtime: Runtime) -> list[dict[str, Any]]:
        from app.access.holdings import scopes_of_each
        from app.identity.users import UserFilter, list_users
        from app.views import UserAnswer

        async with runtime.sessions() as db:
            users = await list_users(db, UserFilter(name=search), limit=limit + 1)
            held = await scopes_of_each(db, [each.id for each in users], now=runtime.now())
        return [{**UserAnswer.of(each).model_dump(), "granted": held[each.id]} for each in users]

    show_list(run(act), ["username", "kind", "disabled", "granted"], limit=limit, as_json=as_json)


@user.command("show")
def user_show(name: Name, as_json: AsJson = False) -> None:
    """Show one user, their grants, sessions and secrets."""

    async def act(runtime: Runtime) -> dict[str, Any]:
        from app.access.holdings import grants_of
        from app.identity.clients import secrets_of
        from app.identity.sessions import live_sessions
        from app.identity.users import get_user
        from app.views import GrantAnswer, SecretAnswer, SessionAnswer, UserAnswer

        now = runtime.now()
        async with runtime.sessions() as db:
            found = await get_user(db, name)
            held = await grants_of(db, found.id, now=now)
            signed_in = await live_sessions(db, found.id, after=None, limit=SESSIONS_SHOWN, now=now)
            kept = await secrets_of(db, found.id)
        return {
            **UserAnswer.of(found).model_dump(),
            "grants": [GrantAnswer.model_validate(each).model_dump() for each in held],
            "sessions": [SessionAnswer.model_validate(each).model_dump() for each in signed_in],
            "secrets": [SecretAnswer.of(each).model_dump() for each in kept],
        }

    found = run(act)
    parts = [
        table([found], ["id", "username", "kind", "disabled", "created_at"], title="User"),
        table(found["grants"], ["scope", "granted_at", "expires_at", "reason"], title="Grants"),
        table(found["sessions"], sessions.COLUMNS, title="Sessions"),
        table(found["secrets"], SECRET_COLUMNS, title="Secrets"),
    ]
    show(found, as_json, "\n\n".join(parts if found["kind"] == "service" else parts[:-1]))
    if len(found["sessions"]) == SESSIONS_SHOWN:
        typer.echo(f"More sessions, if any: scopegate session list {name}", err=True)


@user.command("rename")
def user_rename(name: Name, new_name: NewName) -> None:
    """Give a person another name. A service account's stays: it is its client_id."""

    async def rename(work: Work[Caller], user_id: uuid.UUID) -> None:
        from app.access import accounts

        await accounts.change(work, user_id, username=new_name, disabled=None)

    typer.echo(f"Renamed {name} to {_with_user(name, rename)}")


@user.command("disable")
def user_disable(name: Name, force: Force = False, yes: Yes = False) -> None:
    """No login and no token of this user counts any more."""
    confirm(f"Disabling {name} ends all their sessions", yes=yes)

    async def disable(work: Work[Caller], user_id: uuid.UUID) -> None:
        from app.access import accounts

        await accounts.disable(work, user_id, force=force)

    typer.echo(f"Disabled {_with_user(name, disable)}: all their sessions have ended")


@user.command("enable")
def user_enable(name: Name) -> None:
    """The user may sign in again; no old token comes back."""

    async def enable(work: Work[Caller], user_id: uuid.UUID) -> None:
        from app.access import accounts

        await accounts.change(work, user_id, username=None, disabled=False)

    typer.echo(f"Enabled {_with_user(name, enable)}")


@user.command("password")
def user_password(name: Name) -> None:
    """Set a person's password.

    It is asked for, or read from standard input. All their sessions end.
    """
    password = read_password()

    async def act(runtime: Runtime) -> str:
        from app.access import accounts
        from app.identity.users import get_user

        async with runtime.sessions() as db:
            found = await get_user(db, name)
        await accounts.replace_password(
            runtime.database, runtime.hasher, found.id, password=password, caller=operator()
        )
        return found.username

    typer.echo(f"Set the password of {run(act)}: all their sessions have ended")


@user.command("secret")
def user_secret(name: Name, as_json: AsJson = False) -> None:
    """Make a service account's second secret.

    Both are live until you revoke the first.
    """

    async def act(work: Work[Caller]) -> dict[str, Any]:
        from app.access import accounts
        from app.identity.users import get_user

        found = await get_user(work.db, name)
        return _shown(*await accounts.make_secret(work, found.id))

    made = change(act)
    show(made, as_json, _secret_text(made))


@user.command("secrets")
def user_secrets(name: Name, as_json: AsJson = False) -> None:
    """List a service account's live secrets.

    Oldest first: their ids, not the secrets themselves.
    """

    async def act(runtime: Runtime) -> list[dict[str, Any]]:
        from app.identity.clients import secrets_of
        from app.identity.users import get_user
        from app.views import SecretAnswer

        async with runtime.sessions() as db:
            found = await get_user(db, name)
            if found.kind != "service":
                raise ScopegateError(f"{found.username} is a person, who has a password instead")
            return [SecretAnswer.of(each).model_dump() for each in await secrets_of(db, found.id)]

    rows = run(act)
    show(rows, as_json, table(rows, SECRET_COLUMNS))


@user.command("revoke-secret")
def user_revoke_secret(
    name: Name, secret_id: SecretId, force: Force = False, yes: Yes = False
) -> None:
    """Revoke a service account's secret."""
    confirm(f"Revoking a secret of {name} locks out the services that use it", yes=yes)

    async def revoke(work: Work[Caller], user_id: uuid.UUID) -> None:
        from app.access import accounts

        await accounts.revoke_secret(work, user_id, secret_id, force=force)

    typer.echo(f"Revoked a secret of {_with_user(name, revoke)}")


def _with_user(name: str, act: Callable[[Work[Caller], uuid.UUID], Awaitable[None]]) -> str:
    """Change the user of that name; return the name as it is kept."""

    async def with_id(work: Work[Caller]) -> str:
        from app.identity.users import get_user

        found = await get_user(work.db, name)
        await act(work, found.id)
        return found.username

    return change(with_id)


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
