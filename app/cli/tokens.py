"""`scopegate token …`: the personal access tokens of people."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.commands import command
from app.cli.console import Limit, Name, Output, listed, parse_id

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.runtime import Runtime

token = typer.Typer(
    help="List and revoke the personal access tokens of people.", no_args_is_help=True
)

TokenId = Annotated[uuid.UUID, typer.Argument(parser=parse_id, metavar="ID", help="Which token.")]
COLUMNS = ["id", "name", "scopes", "created_at", "expires_at", "last_used_at"]


@command(token, "list")
async def token_list(runtime: Runtime, name: Name, limit: Limit = 50) -> Output:
    """A person's live tokens. The one that expires first comes first."""
    from dataclasses import asdict

    from app.identity.own_sessions import list_tokens
    from app.identity.users import get_user

    async with runtime.reading() as db:
        user = await get_user(db, name)
        found = await list_tokens(db, user.id, limit=limit + 1, now=runtime.now())
    return listed([asdict(each) for each in found], COLUMNS, limit=limit)


@command(
    token, "revoke", confirm="Revoking token {token_id} of {name} stops every program that uses it"
)
async def token_revoke(work: Work[Caller], name: Name, token_id: TokenId) -> str:
    """Revoke one token of a person: it counts nowhere any more."""
    from app.access.personal_tokens import revoke_token_of
    from app.identity.users import get_user

    user = await get_user(work.db, name)
    await revoke_token_of(work, user.id, token_id, reason="revoked by an operator")
    return f"Revoked token {token_id} of {user.username}"
