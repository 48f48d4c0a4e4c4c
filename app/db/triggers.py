"""The triggers that notify of changes: whether each is there, enabled, and as it was migrated.

`triggers.sql` has the definitions as Postgres shows them. `python -m tests.generated_triggers`
writes it anew after a migration has changed them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from app.db.locks import Lock
from app.db.schema import migrations
from app.db.table_locks import lock_tables

DEFINITIONS = Path(__file__).with_name("triggers.sql")
_PART = re.compile(
    r"^-- (function|trigger) (\S+)\n(.*?);$(?=\n\n--|\n\Z)", re.MULTILINE | re.DOTALL
)
_FUNCTION = re.compile(r"EXECUTE FUNCTION (\w+)\(")

# A function is shown with its schema, which need not be the same everywhere.
TRIGGER_QUERY = """
SELECT (SELECT min(version_num) FROM alembic_version), listed.name || '.' || made.tgname,
    made.tgenabled = 'A',
    pg_get_triggerdef(made.oid, true),
    replace(
        replace(pg_get_functiondef(code.oid), 'FUNCTION ' || home.name || '.', 'FUNCTION '),
        'FROM ' || home.name || '.', 'FROM SCHEMA.'),
    concat_ws(' ', made.oid, made.xmin, code.xmin)
FROM unnest($1::text[]) AS listed(name)
LEFT JOIN pg_trigger AS made ON made.tgrelid = to_regclass(listed.name) AND NOT made.tgisinternal
LEFT JOIN pg_proc AS code ON code.oid = made.tgfoid
LEFT JOIN LATERAL (
    SELECT quote_ident(nspname) AS name FROM pg_namespace WHERE oid = code.pronamespace
) AS home ON true
"""


def _read(kind: str) -> dict[str, str]:
    return {name: text for of, name, text in _PART.findall(DEFINITIONS.read_text()) if of == kind}


FUNCTIONS = _read("function")
TRIGGERS = _read("trigger")
"""Definitions, by table and name: `users.users_notify_update`."""
NOTIFYING = sorted(name for name in TRIGGERS if "_notify_" in name)
TABLES = sorted({name.partition(".")[0] for name in TRIGGERS})
"""What TRIGGER_QUERY takes."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """What a look at the triggers found."""

    wrong: tuple[str, ...]
    """Those that are not as they must be, and how: `users.users_notify_update is off`."""
    versions: frozenset[str]
    """Change whenever a trigger or its function was touched, even if all was put back."""


def judge(rows: Iterable[Sequence[Any]], names: Sequence[str] = NOTIFYING) -> Triggers:
    """Return what the rows of TRIGGER_QUERY say of these triggers.

    Where the database is of a later version, only that each is there and enabled: a later
    migration may define them anew.
    """
    wrong, versions = [], set()
    found = {row[1]: row for row in rows}
    for name in names:
        if name not in found:
            wrong.append(f"{name} is missing")
            continue
        revision, _, always, trigger, function, version = found[name]
        versions.add(f"{name} {version}")
        if not always:
            wrong.append(f"{name} is off or not ENABLE ALWAYS")
        elif revision in migrations() and (trigger, function.rstrip()) != _definition(name):
            wrong.append(f"{name} is not as it was migrated")
    return Triggers(tuple(wrong), frozenset(versions))


def restore_triggers(connection: Connection) -> None:
    """Make every trigger as it must be, in a database that this version has migrated."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": Lock.TRIGGERS.value})
    rows = connection.exec_driver_sql(TRIGGER_QUERY, (TABLES,)).all()
    names = [each.split()[0] for each in judge(rows, sorted(TRIGGERS)).wrong]
    if names:
        tables = sorted({name.partition(".")[0] for name in names})
        connection.exec_driver_sql(lock_tables(against_writes=tables))
    schema = connection.scalar(text("SELECT quote_ident(current_schema())"))
    for name in names:
        trigger, function = _definition(name)
        table, _, short = name.partition(".")
        connection.exec_driver_sql(function.replace("FROM SCHEMA.", f"FROM {schema}."))
        connection.exec_driver_sql(trigger.replace("CREATE", "CREATE OR REPLACE", 1))
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {short}")


def _definition(name: str) -> tuple[str, str]:
    trigger = TRIGGERS[name]
    called = _FUNCTION.search(trigger)
    assert called is not None
    return trigger, FUNCTIONS[called[1]]
