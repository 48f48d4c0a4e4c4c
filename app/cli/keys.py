"""`scopegate key …`: the keys that tokens are signed with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.commands import command
from app.cli.console import AsJson, Output, operator, table, to_json
from app.cli.times import written
from app.errors import ScopegateError

if TYPE_CHECKING:
    from app.access.authority import Caller
    from app.db.work import Work
    from app.runtime import Runtime
    from app.tokens.models import SigningKey

key = typer.Typer(help="List, rotate and retire the signing keys.", no_args_is_help=True)


@command(key, "list")
async def key_list(
    runtime: Runtime,
    pem: Annotated[
        bool, typer.Option("--pem", help="Print the public keys as PEM, the signing one first.")
    ] = False,
    as_json: AsJson = False,
) -> str:
    """All keys, and what each does now.

    With --pem the public keys that verify now or will soon, for gateways that read PEM files.
    """
    from app.tokens import keys
    from app.tokens.models import ACCESS_TOKENS

    async with runtime.reading() as db:
        found = await keys.list_keys(db)
    now = runtime.now()
    signing = runtime.keyring.signing_now(now)
    rows = [_row(each, signing=signing, now=now) for each in found]
    if pem:
        # Gateways verify access tokens.
        rows = [row for row in rows if row["purpose"] == ACCESS_TOKENS]
        rows = [row | {"pem": await _pem(runtime, row)} for row in rows]
    if as_json:
        return to_json(rows)
    columns = ["kid", "algorithm", "purpose", "state", "signs_from", "retires_at"]
    return _pem_file(rows) if pem else table(rows, columns)


@command(key, "rotate")
async def key_rotate(
    runtime: Runtime,
    at_once: Annotated[
        bool, typer.Option("--now", help="Sign with it at once, without publishing it first.")
    ] = False,
    id_tokens: Annotated[
        bool, typer.Option("--id-tokens", help="The key of ID tokens (RS256), not access tokens'.")
    ] = False,
) -> Output:
    """Make a new key. The present ones verify until their last tokens have expired.

    With --now a key that is published and has yet to sign never signs: the new one does.
    """
    from app.tokens import keys
    from app.tokens.models import ACCESS_TOKENS, ID_TOKENS

    async with runtime.work(operator()) as work:
        made = await keys.rotate_key(
            work,
            runtime.cipher,
            algorithm="RS256" if id_tokens else runtime.settings.signing_algorithm,
            purpose=ID_TOKENS if id_tokens else ACCESS_TOKENS,
            publication=timedelta(0) if at_once else runtime.settings.key_publication,
            overlap=runtime.key_overlap,
        )
    await runtime.keyring.load()
    now = runtime.now()
    row = _row(made, signing=runtime.keyring.signing_now(now), now=now)
    when = written(made.signs_from)
    return Output(row, f"Made the key {made.kid} ({made.algorithm}), signing from {when}")


@command(key, "retire", confirm="Retiring the key {kid} makes every token that it signed worthless")
async def key_retire(
    work: Work[Caller], kid: Annotated[str, typer.Argument(metavar="KID", help="Which key.")]
) -> str:
    """A key verifies nothing from now on: for one that has leaked. Its tokens are refused."""
    from app.tokens import keys

    await keys.retire_key(work, kid)
    return f"Retired the key {kid}: tokens that it signed are refused"


@command(key, "rewrap")
async def key_rewrap(runtime: Runtime) -> str:
    """Encrypt all keys anew under the first of SCOPEGATE_SECRET_KEYS.

    Refresh tokens are made with the secret too: keep the old one, as the second, until every
    session has been refreshed or has idled out (SCOPEGATE_SESSION_IDLE_TIMEOUT). Then it can go.
    """
    from app.tokens import keys

    async with runtime.work(operator()) as work:
        return f"Rewrapped {await keys.rewrap_keys(work, runtime.cipher)} keys"


def _row(each: SigningKey, *, signing: set[str], now: datetime) -> dict[str, Any]:
    """The key, and what it does now, while those of the ids `signing` sign."""
    if each.retires_at is not None and each.retires_at <= now:
        state = "retired"
    elif each.kid in signing:
        state = "signs"
    else:
        state = "published" if each.signs_from > now else "verifies"
    return {
        "kid": each.kid,
        "algorithm": each.algorithm,
        "purpose": each.purpose,
        "state": state,
        "signs_from": each.signs_from,
        "retires_at": each.retires_at,
    }


async def _pem(runtime: Runtime, row: dict[str, Any]) -> str | None:
    """The public part of this key; None where it has none, or verifies nothing any more."""
    found = await runtime.keyring.find(row["kid"], now=runtime.now())
    return found.public_pem() if found else None


def _pem_file(rows: list[dict[str, Any]]) -> str:
    """All public keys in one file: some programs read the first one alone."""
    first_signs = sorted(rows, key=lambda row: row["state"] != "signs")
    blocks = [row["pem"] for row in first_signs if row["pem"]]
    if not blocks:
        raise ScopegateError("No key has a public part: HS256 signs with a secret")
    return "".join(blocks).removesuffix("\n")
