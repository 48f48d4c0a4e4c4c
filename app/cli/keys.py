"""`scopegate key …`: the keys that tokens are signed with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.console import AsJson, Yes, confirm, operator, run, show, table
from app.cli.times import written
from app.errors import ScopegateError

if TYPE_CHECKING:
    from app.runtime import Runtime
    from app.tokens.models import SigningKey

key = typer.Typer(help="List, rotate and retire the signing keys.", no_args_is_help=True)


@key.command("list")
def key_list(
    pem: Annotated[
        bool, typer.Option("--pem", help="Print the public keys as PEM, the signing one first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """All keys, and what each does now.

    With --pem the public keys that verify now or will soon, for gateways that read PEM files.
    """

    async def act(runtime: Runtime) -> list[dict[str, Any]]:
        from app.tokens import keys

        async with runtime.sessions() as db:
            found = await keys.list_keys(db)
        now = runtime.now()
        signing = runtime.keyring.signing(now).kid
        rows = [_row(each, signing=signing, now=now) for each in found]
        return [row | {"pem": await _pem(runtime, row)} for row in rows] if pem else rows

    rows = run(act)
    if pem and not as_json:
        typer.echo(_pem_file(rows), nl=False)
        return
    show(rows, as_json, table(rows, ["kid", "algorithm", "state", "signs_from", "retires_at"]))


@key.command("rotate")
def key_rotate(
    at_once: Annotated[
        bool, typer.Option("--now", help="Sign with it at once, without publishing it first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new key. The present ones verify until their last tokens have expired.

    With --now a key that is published and has yet to sign never signs: the new one does.
    """

    async def act(runtime: Runtime) -> dict[str, Any]:
        from app.tokens import keys

        publication = timedelta(0) if at_once else runtime.settings.key_publication
        async with runtime.work(operator()) as work:
            made = await keys.rotate_key(
                work,
                runtime.cipher,
                algorithm=runtime.settings.signing_algorithm,
                publication=publication,
                overlap=runtime.key_overlap,
            )
        await runtime.keyring.load()
        now = runtime.now()
        return _row(made, signing=runtime.keyring.signing(now).kid, now=now)

    made = run(act)
    when = written(made["signs_from"])
    text = f"Made the key {made['kid']} ({made['algorithm']}), signing from {when}"
    show(made, as_json, text)


@key.command("retire")
def key_retire(
    kid: Annotated[str, typer.Argument(metavar="KID", help="Which key.")], yes: Yes = False
) -> None:
    """A key verifies nothing from now on: for one that has leaked. Its tokens are refused."""
    confirm(f"Retiring the key {kid} makes every token that it signed worthless", yes=yes)

    async def act(runtime: Runtime) -> None:
        from app.tokens import keys

        async with runtime.work(operator()) as work:
            await keys.retire_key(work, kid)

    run(act)
    typer.echo(f"Retired the key {kid}: tokens that it signed are refused")


@key.command("rewrap")
def key_rewrap() -> None:
    """Encrypt all keys anew under the first of SCOPEGATE_SECRET_KEYS.

    Refresh tokens are made with the secret too: keep the old one, as the second, until every
    session has been refreshed or has idled out (SCOPEGATE_SESSION_IDLE_TIMEOUT). Then it can go.
    """

    async def act(runtime: Runtime) -> int:
        from app.tokens import keys

        async with runtime.work(operator()) as work:
            return await keys.rewrap_keys(work, runtime.cipher)

    typer.echo(f"Rewrapped {run(act)} keys")


def _row(each: SigningKey, *, signing: str, now: datetime) -> dict[str, Any]:
    """The key, and what it does now, while the one of the id `signing` signs."""
    if each.retires_at is not None and each.retires_at <= now:
        state = "retired"
    elif each.kid == signing:
        state = "signs"
    else:
        state = "published" if each.signs_from > now else "verifies"
    return {
        "kid": each.kid,
        "algorithm": each.algorithm,
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
    return "".join(blocks)
