"""`scopegate user …`: people and service accounts."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from app.cli import sessions
from app.cli.commands import Before, command
from app.cli.console import (
    Force,
    Limit,
    Name,
    Output,
    listed,
    operator,
    parse_id,
    read_password,
    table,
)
from app.cli.invitations import invitation_output
from app.errors import ScopegateError

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.identity.clients import NewSecret
    from app.identity.models import User
    from app.runtime import Runtime

user = typer.Typer(help="Make, find, change, disable and import users.", no_args_is_help=True)

Service = Annotated[bool, typer.Option("--service", help="A service account, with a secret.")]
GrantToo = Annotated[
    list[str] | None, typer.Option("--scope", help="Grant this scope too; may be repeated.")
]
Email = Annotated[
    str | None, typer.Option(help="Their e-mail address. They are mailed a link to confirm it.")
]
Invite = Annotated[
    bool,
    typer.Option("--invite", help="Ask for no password: print a link, by which they set it."),
]
Search = Annotated[str | None, typer.Option(help="Only names with this in them.")]
NewName = Annotated[str, typer.Argument(metavar="NEW_NAME", help="Their name from now on.")]
NameOrId = Annotated[str, typer.Argument(metavar="NAME", help="The user's name, or their id.")]
SecretId = Annotated[
    uuid.UUID, typer.Argument(parser=parse_id, metavar="SECRET_ID", help="Which secret.")
]

SESSIONS_SHOWN = 20
SECRET_COLUMNS = ["secret_id", "created_at"]


class NewPerson(NamedTuple):
    """What a new person begins with."""

    email: str | None
    password: str | None
    """None: they are invited to set one."""


def _new_person(
    service: Service = False, invite: Invite = False, email: Email = None
) -> NewPerson | None:
    """What a person begins with; None for a service account."""
    if service and (invite or email is not None):
        raise ScopegateError(
            "A service account has no address, and is not invited: it has secrets."
        )
    return None if service else NewPerson(email, None if invite else read_password())


@command(user, "create")
async def user_create(
    runtime: Runtime,
    name: Name,
    scope: GrantToo = None,
    *,
    new: Annotated[NewPerson | None, Before(_new_person)],
) -> Output:
    """Make a user. The password is asked for, or read from standard input."""
    from app.access import accounts
    from app.access.grants import grant
    from app.access.scopes import require_registered
    from app.views import UserAnswer

    person, secret, invitation, scopes = None, None, None, sorted(scope or [])
    if new is not None:
        person = await accounts.prepare_person(
            runtime.hasher, username=name, **new._asdict(), caller=operator()
        )
    async with runtime.work(operator()) as work:
        if person:
            made, invitation = await accounts.welcome_person(work, runtime.letters, person)
        else:
            made, secret = await accounts.create_service(work, username=name)
        await require_registered(work.db, set(scopes))
        for each in scopes:
            await grant(work, made.id, each)
    found = {**UserAnswer.of(made).model_dump(), "granted": scopes}
    text = f"Made {made.username} ({made.id})"
    if invitation is not None:
        return invitation_output(invitation, found, text)
    if secret is None:
        return Output(found, text)
    shown = _secret(made, secret)
    return Output(found | shown.found, f"{text}\n{shown.text}")


@command(user, "list")
async def user_list(runtime: Runtime, search: Search = None, limit: Limit = 50) -> Output:
    """Users, newest first, with what they are granted."""
    from app.access.holdings import scopes_of_each
    from app.identity.users import UserFilter, list_users
    from app.views import UserAnswer

    async with runtime.reading() as db:
        users = await list_users(db, UserFilter(name=search), limit=limit + 1)
        held = await scopes_of_each(db, [each.id for each in users], now=runtime.now())
    rows = [{**UserAnswer.of(each).model_dump(), "granted": held[each.id]} for each in users]
    return listed(rows, ["username", "kind", "disabled", "granted"], limit=limit)


@command(user, "show")
async def user_show(runtime: Runtime, name: Name) -> Output:
    """Show one user, their grants, sessions and secrets."""
    from app.access.holdings import grants_of
    from app.identity.clients import secrets_of
    from app.identity.sessions import live_sessions
    from app.identity.users import get_user
    from app.views import GrantAnswer, SecretAnswer, SessionAnswer, UserAnswer

    now = runtime.now()
    async with runtime.reading() as db:
        user = await get_user(db, name)
        held = await grants_of(db, user.id, now=now)
        signed_in = await live_sessions(db, user.id, after=None, limit=SESSIONS_SHOWN, now=now)
        kept = await secrets_of(db, user.id)
    found = {
        **UserAnswer.of(user).model_dump(),
        "grants": [GrantAnswer.model_validate(each).model_dump() for each in held],
        "sessions": [SessionAnswer.model_validate(each).model_dump() for each in signed_in],
        "secrets": [SecretAnswer.of(each).model_dump() for each in kept],
    }
    parts = [
        table([found], ["id", "username", "email", "kind", "disabled", "created_at"], title="User"),
        table(found["grants"], ["scope", "granted_at", "expires_at", "reason"], title="Grants"),
        table(found["sessions"], sessions.COLUMNS, title="Sessions"),
    ]
    if user.kind == "service":
        parts.append(table(found["secrets"], SECRET_COLUMNS, title="Secrets"))
    full = len(signed_in) == SESSIONS_SHOWN
    more = f"More sessions, if any: scopegate session list {name}" if full else None
    return Output(found, "\n\n".join(parts), more)


@command(user, "rename")
async def user_rename(work: Work[Caller], name: Name, new_name: NewName) -> str:
    """Give a person another name. A service account's stays: it is its client_id."""
    from app.access import accounts
    from app.identity.users import get_user

    user = await get_user(work.db, name)
    await accounts.change(work, user.id, username=new_name, disabled=None)
    return f"Renamed {name} to {user.username}"


@command(user, "disable", confirm="Disabling {name} ends all their sessions")
async def user_disable(work: Work[Caller], name: Name, force: Force = False) -> str:
    """No login and no token of this user counts any more."""
    from app.access import accounts
    from app.identity.users import get_user

    user = await get_user(work.db, name)
    await accounts.disable(work, user.id, force=force)
    return f"Disabled {user.username}: all their sessions have ended"


@command(
    user,
    "erase",
    confirm="Erasing {name} deletes the account and all that is theirs",
    typed="name",
)
async def user_erase(work: Work[Caller], name: NameOrId) -> Output:
    """Delete a user and all that is theirs.

    Their name stays taken for 30 days.
    """
    from app.access.erasure import erase
    from app.identity.users import find_user, get_user, user_of_id

    # A restored backup is erased from again by the ids in the audit log.
    user = await find_user(work.db, name)
    if user is None and (user_id := _id_in(name)):
        user = await user_of_id(work.db, user_id)
    user = user or await get_user(work.db, name)
    found = {"id": str(user.id), "username": user.username, "kind": user.kind}
    await erase(work, user.id)
    return Output(found, f"Erased {found['username']} ({found['id']})")


@command(user, "enable")
async def user_enable(work: Work[Caller], name: Name) -> str:
    """The user may sign in again; no old token comes back."""
    from app.access import accounts
    from app.identity.users import get_user

    user = await get_user(work.db, name)
    await accounts.change(work, user.id, username=None, disabled=False)
    return f"Enabled {user.username}"


@command(user, "password")
async def user_password(
    runtime: Runtime, name: Name, password: Annotated[str, Before(read_password)]
) -> str:
    """Set a person's password.

    It is asked for, or read from standard input. All their sessions end.
    """
    from app.access import accounts
    from app.identity.users import get_user

    async with runtime.reading() as db:
        user = await get_user(db, name)
    await accounts.replace_password(
        runtime.database, runtime.hasher, user.id, password=password, caller=operator()
    )
    return f"Set the password of {user.username}: all their sessions have ended"


@command(user, "secret")
async def user_secret(work: Work[Caller], name: Name) -> Output:
    """Make a service account's second secret.

    Both are live until you revoke the first.
    """
    from app.access import accounts
    from app.identity.users import get_user

    user = await get_user(work.db, name)
    return _secret(*await accounts.make_secret(work, user.id))


@command(user, "secrets")
async def user_secrets(runtime: Runtime, name: Name) -> Output:
    """List a service account's live secrets.

    Oldest first: their ids, not the secrets themselves.
    """
    from app.identity.clients import secrets_of
    from app.identity.users import get_user
    from app.views import SecretAnswer

    async with runtime.reading() as db:
        user = await get_user(db, name)
        if user.kind != "service":
            raise ScopegateError(f"{user.username} is a person, who has a password instead")
        rows = [SecretAnswer.of(each).model_dump() for each in await secrets_of(db, user.id)]
    return Output(rows, table(rows, SECRET_COLUMNS))


@command(
    user,
    "revoke-secret",
    confirm="Revoking a secret of {name} locks out the services that use it",
)
async def user_revoke_secret(
    work: Work[Caller], name: Name, secret_id: SecretId, force: Force = False
) -> str:
    """Revoke a service account's secret."""
    from app.access import accounts
    from app.identity.users import get_user

    user = await get_user(work.db, name)
    await accounts.revoke_secret(work, user.id, secret_id, force=force)
    return f"Revoked a secret of {user.username}"


def _id_in(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _secret(service: User, secret: NewSecret) -> Output:
    """A service account's new secret, which is shown once."""
    found = {
        "client_id": service.username,
        "client_secret": secret.value,
        "secret_id": str(secret.id),
    }
    once = f"client_secret {secret.value} (shown once)"
    return Output(found, f"client_id {service.username}, {once}, secret id {secret.id}")
