"""Write `app/db/triggers.sql` anew, from a database that was just migrated.

`python -m tests.generated_triggers`, after a migration that makes, changes or removes a trigger.
"""

import asyncio
import tempfile
from pathlib import Path

import asyncpg

from app.db.triggers import DEFINITIONS, TRIGGER_QUERY
from tests.support.faults import OwnPostgres
from tests.support.postgres_programs import libpq_url

HEAD = "-- Made by: python -m tests.generated_triggers\n"
TABLES = "SELECT array_agg(DISTINCT tgrelid::regclass::text) FROM pg_trigger WHERE NOT tgisinternal"


async def definitions_of(connection: asyncpg.Connection) -> str:
    """Return the definitions of all triggers in a database, in the form of the file."""
    rows = await connection.fetch(TRIGGER_QUERY, await connection.fetchval(TABLES))
    functions, triggers = {}, {}
    for _, name, _, trigger, function, _ in rows:
        triggers[f"trigger {name}"] = trigger
        functions[f"function {function.split('FUNCTION ')[1].partition('(')[0]}"] = function
    parts = {**dict(sorted(functions.items())), **dict(sorted(triggers.items()))}
    return HEAD + "".join(f"\n-- {name}\n{text.rstrip()};\n" for name, text in parts.items())


async def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = await OwnPostgres.start(Path(folder) / "home")
        connection = await asyncpg.connect(libpq_url(server.url))
        DEFINITIONS.write_text(await definitions_of(connection))
        await connection.close()
        await server.stop()


if __name__ == "__main__":
    asyncio.run(_write())
