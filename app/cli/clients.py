"""`scopegate client …`: applications that sign people in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from app.cli.commands import Before, command
from app.cli.console import Limit, Output, listed, table

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.runtime import Runtime

client = typer.Typer(
    help="Register, show, change and delete applications that sign people in.",
    no_args_is_help=True,
)

ClientId = Annotated[str, typer.Argument(metavar="CLIENT_ID", help="The client's id.")]
Redirects = Annotated[
    list[str] | None,
    typer.Option("--redirect-uri", help="Where people are sent back to; may be repeated."),
]
LogoutRedirects = Annotated[
    list[str] | None,
    typer.Option("--post-logout-redirect-uri", help="The same after signing out."),
]
Ceiling = Annotated[
    list[str] | None,
    typer.Option("--scope", help="The most that its tokens may have; may be repeated."),
]
Grace = Annotated[
    int | None, typer.Option("--refresh-grace", help="Seconds, 10 to 120, in place of the setting.")
]
IdTokenAlgorithm = Annotated[
    str | None,
    typer.Option("--id-token-alg", help="What ID tokens are signed by: RS256, ES256 or EdDSA."),
]
COLUMNS = ["client_id", "name", "redirect_uris", "scopes", "confidential", "trusted"]


def _terms(
    redirect_uri: Redirects = None,
    post_logout_redirect_uri: LogoutRedirects = None,
    scope: Ceiling = None,
    refresh_grace: Grace = None,
    id_token_alg: IdTokenAlgorithm = None,
) -> dict[str, Any]:
    """Return what is said about a client."""
    said = {
        "redirect_uris": redirect_uri,
        "post_logout_redirect_uris": post_logout_redirect_uri,
        "scopes": scope,
        "refresh_grace": refresh_grace,
        "id_token_signed_response_alg": id_token_alg,
    }
    return {name: value for name, value in said.items() if value is not None}


@command(client, "create")
async def client_create(
    work: Work[Caller],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people see of it.")],
    client_id: Annotated[
        str | None, typer.Option("--client-id", help="Without it, one is made.")
    ] = None,
    *,
    confidential: Annotated[
        bool, typer.Option("--confidential", help="It has a secret, on a server.")
    ] = False,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="People are not asked for their consent.")
    ] = False,
    terms: Annotated[dict[str, Any], Before(_terms)],
) -> Output:
    """Register a client. Without --scope its tokens may have every scope but admin."""
    from app.access.client_registry import NewClient, register_client
    from app.views import ClientAnswer

    given = {"redirect_uris": (), **terms}
    new = NewClient(name, client_id=client_id, confidential=confidential, trusted=trusted, **given)
    registration, secret = await register_client(work, new)
    found = ClientAnswer.of(registration).model_dump()
    text = f"Registered {registration.name}: client_id {registration.client_id}"
    if secret is None:
        return Output(found, text)
    shown = {"client_secret": secret.value}
    return Output(found | shown, f"{text}, client_secret {secret.value} (shown once)")


@command(client, "list")
async def client_list(runtime: Runtime, limit: Limit = 50) -> Output:
    """List clients, by their ids."""
    from app.identity.registrations import list_registrations
    from app.views import ClientAnswer

    async with runtime.reading() as db:
        found = await list_registrations(db, limit=limit + 1)
    rows = [ClientAnswer.of(each).model_dump() for each in found]
    return listed(rows, COLUMNS, limit=limit)


@command(client, "show")
async def client_show(runtime: Runtime, client_id: ClientId) -> Output:
    """Show one client."""
    from app.identity.registrations import get_registration
    from app.views import ClientAnswer

    async with runtime.reading() as db:
        found = ClientAnswer.of(await get_registration(db, client_id)).model_dump()
    return Output(found, table([found], [*COLUMNS, "refresh_grace", "created_at"]))


@command(client, "change")
async def client_change(
    work: Work[Caller],
    client_id: ClientId,
    name: Annotated[str | None, typer.Option("--name", help="What people see of it.")] = None,
    *,
    trusted: Annotated[
        bool | None,
        typer.Option("--trusted/--not-trusted", help="Whether people are not asked."),
    ] = None,
    terms: Annotated[dict[str, Any], Before(_terms)],
) -> str:
    """Change a client. What its ceiling loses, its tokens lose at once."""
    from app.access.client_registry import ClientChanges, change_client

    said = {"name": name, "trusted": trusted}
    changes = {**terms, **{key: value for key, value in said.items() if value is not None}}
    await change_client(work, client_id, cast(ClientChanges, changes))
    return f"Changed {client_id}"


@command(client, "delete", confirm="Deleting {client_id} ends all its sessions")
async def client_delete(work: Work[Caller], client_id: ClientId) -> str:
    """Delete a client: all its sessions and consents end."""
    from app.access.client_registry import delete_client

    await delete_client(work, client_id)
    return f"Deleted {client_id}: all its sessions have ended"
