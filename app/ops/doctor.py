"""The doctor: what may be wrong with an installation, and what to do. It changes nothing."""

import os
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.authority import has_lasting_admin
from app.access.scopes import SHIPPED
from app.db.beats import NoStandby
from app.db.clock import DatabaseClock, set_clock
from app.db.embedded import NoDatabaseHere
from app.db.engine import DATABASE_GONE, open_engine
from app.db.listener import FeedDeaf, ListensElsewhere
from app.db.primary import Primary
from app.db.schema import (
    ForeignDatabase,
    current_revision,
    head_revision,
    is_behind,
    refuse_foreign,
)
from app.db.servers import ServerReplaced, TakesNoWrites
from app.db.triggers import TABLES, TRIGGER_QUERY, TRIGGERS, judge
from app.db.url import shown_url, unproven_servers
from app.env_file import PREFIX, read_env_file
from app.errors import ScopegateError, first_line
from app.ops import mail_doctor
from app.ops.findings import Finding
from app.runtime import Runtime, assemble
from app.service_secrets import secret_keys_of
from app.settings import Settings
from app.tokens.keys import UnreadableKey, list_keys

OLDEST_POSTGRES = 15
KNOWN_SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
ALIKE = 0.9
"""How much of a misspelt name is a setting's."""
CLOCK_TOLERANCE = 1.0
"""Seconds that a machine's clock may be off before the doctor warns."""
WRONG = (ScopegateError, DBAPIError, *DATABASE_GONE)
FEED_REMEDIES: dict[type[BaseException], str] = {
    FeedDeaf: "set SCOPEGATE_LISTEN_DATABASE_URL to a URL that leads to the same database "
    "directly, past PgBouncer: till then every request asks the database",
    ListensElsewhere: "set SCOPEGATE_LISTEN_DATABASE_URL to a URL that leads to the same server as "
    "SCOPEGATE_DATABASE_URL, or leave it out",
    NoStandby: "look into pg_stat_replication: start the standby, or take it out of "
    "synchronous_standby_names",
}
CONNECT_REMEDIES: dict[type[BaseException], str] = {
    TakesNoWrites: "promote a standby, end what made the server read-only, or name the primary in "
    "SCOPEGATE_DATABASE_URL",
    NoDatabaseHere: "see which SCOPEGATE_HOME or SCOPEGATE_DATABASE_URL the service has",
    ServerReplaced: "see docs/how-to/high-availability.md, When the database went back",
}


async def examine(settings: Settings) -> list[Finding]:
    """Return all findings. Checks that depend on a failed one are left out."""
    findings = [_environment(settings), _issuer(settings), mail_doctor.sender_of(settings)]
    try:
        findings += _unproven_servers(settings)
        async with open_engine(settings) as engine:
            clock, secret_keys = DatabaseClock(), secret_keys_of(settings)
            runtime = assemble(settings, engine, Primary(), clock, secret_keys=secret_keys)
            for check in CHECKS:
                findings.append(await check(runtime))
                if findings[-1].state == "wrong" and check in {_database, _schema}:
                    break
    except WRONG as error:
        findings.append(
            Finding(
                "database",
                "wrong",
                first_line(error),
                CONNECT_REMEDIES.get(
                    type(error),
                    "see that Postgres runs, and what SCOPEGATE_DATABASE_URL and _PASSWORD say",
                ),
            )
        )
    # Last: a server that does not answer is waited for.
    return [*findings, await mail_doctor.server_of(settings)]


def _environment(settings: Settings) -> Finding:
    env_file = Path(str(Settings.model_config["env_file"]))
    in_file = unknown_settings(read_env_file(env_file)) if env_file.is_file() else {}
    unknown = [f"{name}{_meant(name)}" for name in unknown_settings(os.environ)]
    unknown += [f"{name}{_meant(name)} in {env_file.resolve()}" for name in in_file]
    if unknown:
        found = f"{settings.environment}; no settings: {', '.join(unknown)}"
        return Finding("environment", "warning", found, "see whether they are misspelt")
    return Finding("environment", "ok", settings.environment)


def unknown_settings(names: Iterable[str]) -> list[str]:
    """Return the names that look like settings but are none: most are misspelled."""
    start = PREFIX.rstrip("_")
    ours = {name for name in names if name.upper().startswith(start) or _resembles(name)}
    return sorted(name for name in ours if name.upper() not in KNOWN_SETTINGS)


def _resembles(name: str) -> list[str]:
    return get_close_matches(name.upper(), KNOWN_SETTINGS, n=1, cutoff=ALIKE)


def _meant(name: str) -> str:
    return "".join(f" ({setting}?)" for setting in _resembles(name))


def _issuer(settings: Settings) -> Finding:
    issuer = settings.token_issuer
    if settings.environment == "production" and issuer.startswith("http://"):
        remedy = "set SCOPEGATE_ISSUER to the https URL that clients use"
        return Finding("issuer", "warning", f"{issuer}, in production", remedy)
    return Finding("issuer", "ok", issuer)


def _unproven_servers(settings: Settings) -> list[Finding]:
    remedy = "add sslmode=verify-full&sslrootcert=FILE to it, with the certificate of its authority"
    return [
        Finding("database TLS", "warning", f"{setting} does not verify {', '.join(hosts)}", remedy)
        for setting, hosts in unproven_servers(settings).items()
    ]


async def _database(runtime: Runtime) -> Finding:
    async with runtime.engine.connect() as connection:
        version = str(await connection.scalar(text("SHOW server_version")))
        number = int(str(await connection.scalar(text("SHOW server_version_num"))))
        schema = await connection.scalar(text("SELECT current_schema()"))
    found = f"Postgres {version} at {shown_url(runtime.engine.url)}, schema {schema}"
    if schema is None:
        remedy = "create the schema that search_path names, or let this role use it"
        return Finding("database", "wrong", found, remedy)
    if number // 10000 < OLDEST_POSTGRES:
        remedy = f"upgrade it to Postgres {OLDEST_POSTGRES} or later"
        return Finding("database", "wrong", found, remedy)
    return Finding("database", "ok", found)


async def _clock(runtime: Runtime) -> Finding:
    # `set_clock` takes into account how long the database took to answer.
    clock = DatabaseClock()
    async with runtime.engine.connect() as connection:
        await set_clock(clock, connection)
    offset = time.time() - clock().timestamp()
    found = f"this machine's is {offset:+.3f} s off the database's"
    if abs(offset) > CLOCK_TOLERANCE:
        remedy = "let NTP set both: nothing here relies on it, but what reads tokens elsewhere may"
        return Finding("clock", "warning", found, remedy)
    return Finding("clock", "ok", found)


async def _feed(runtime: Runtime) -> Finding:
    """Whether a beat sent where requests lead is heard where this process listens."""
    try:
        took = await runtime.feed.prove()
    except WRONG as error:
        remedy = FEED_REMEDIES.get(type(error), "see what SCOPEGATE_LISTEN_DATABASE_URL says")
        return Finding("change feed", "wrong", first_line(error), remedy)
    return Finding("change feed", "ok", f"a beat came through in {took * 1000:.1f} ms")


async def _triggers(runtime: Runtime) -> Finding:
    async with runtime.engine.connect() as connection:
        rows = (await connection.exec_driver_sql(TRIGGER_QUERY, (TABLES,))).all()
    if wrong := judge(rows, sorted(TRIGGERS)).wrong:
        remedy = "run scopegate migrate, which puts them back: till then every request asks the "
        remedy += "database, if they notify of changes"
        return Finding("triggers", "wrong", ", ".join(wrong), remedy)
    return Finding("triggers", "ok", f"all {len(TRIGGERS)} are there and enabled")


async def _schema(runtime: Runtime) -> Finding:
    async with runtime.engine.connect() as connection:
        try:
            await connection.run_sync(refuse_foreign)
        except ForeignDatabase as error:
            remedy = "see what SCOPEGATE_DATABASE_URL says, or name a schema of Scopegate's own"
            return Finding("schema", "wrong", str(error), remedy)
        revision = await current_revision(connection)
    head = head_revision()
    if is_behind(revision):
        found = f"at {revision or 'nothing'}, and this version needs {head}"
        return Finding("schema", "wrong", found, "run scopegate migrate")
    if revision != head:
        return Finding("schema", "ok", f"at {revision}, of a later version, which keeps {head}")
    return Finding("schema", "ok", f"at {revision}")


async def _scopes(runtime: Runtime) -> Finding:
    if missing := await runtime.missing_scopes():
        found = f"this version ships {', '.join(missing)}, and the database lacks it"
        return Finding("scopes", "wrong", found, "run scopegate migrate")
    return Finding("scopes", "ok", f"all {len(SHIPPED)} that ship are there")


async def _keys(runtime: Runtime) -> Finding:
    keyring = runtime.keyring
    await keyring.load()
    if keyring.unreadable:
        return Finding("keys", "wrong", ", ".join(keyring.unreadable), str(UnreadableKey()))
    async with runtime.reading() as db:
        kept, now = await list_keys(db), await _now(db)
    if not kept:
        return Finding("keys", "ok", "none yet: the first start makes one")
    try:
        keyring.signing(now)
    except ScopegateError as error:
        return Finding("keys", "wrong", str(error), "run scopegate key rotate --now")
    signing = keyring.signing_now(now)
    ages = [
        f"{each.kid} ({each.algorithm} for {each.purpose}, {(now - each.created_at).days} days old"
        f"{', signs' if each.kid in signing else ''})"
        for each in kept
    ]
    return Finding("keys", "ok", ", ".join(ages))


async def _admin(runtime: Runtime) -> Finding:
    async with runtime.reading() as db:
        if await has_lasting_admin(db, now=await _now(db)):
            return Finding("admin", "ok", "an enabled user holds admin without end and can sign in")
    remedy = "run scopegate grant NAME admin for a user with a password or a secret, "
    remedy += "or, while there are no users, scopegate migrate --first-admin"
    found = "no enabled user holds admin without end and can sign in"
    return Finding("admin", "wrong", found, remedy)


async def _now(db: AsyncSession) -> datetime:
    return (await db.execute(select(func.now()))).scalar_one()


CHECKS: tuple[Callable[[Runtime], Awaitable[Finding]], ...] = (
    *(_database, _clock, _schema, _scopes, _feed, _triggers, _keys, _admin),
    mail_doctor.outbox_of,
)
"""Those of the database, in their order."""
