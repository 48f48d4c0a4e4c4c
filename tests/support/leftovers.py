"""Where a word still stands in a database: in any column of any table, and in a dump of it."""

import os
import subprocess

from sqlalchemy import text

from app.runtime import Runtime
from tests.support.postgres_programs import libpq_url, on_path

TABLES = """
SELECT quote_ident(table_name), array_agg(quote_ident(column_name)::text)
FROM information_schema.columns
JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'
GROUP BY 1
"""


async def places_of(runtime: Runtime, *words: str) -> set[str]:
    """The columns in which one of the words stands, in any letter case, also as bytes."""
    found = set()
    async with runtime.sessions() as db:
        for table, columns in (await db.execute(text(TABLES))).all():
            for column in columns:
                for word in words:
                    # Postgres shows bytes in hexadecimal.
                    anywhere = text(
                        f"SELECT 1 FROM {table} WHERE {column}::text ILIKE '%' || :word || '%' "
                        f"OR {column}::text ILIKE '%' || :hexed || '%' LIMIT 1"
                    )
                    values = {"word": word, "hexed": word.encode().hex()}
                    if await db.scalar(anywhere, values):
                        found.add(f"{table}.{column}")
    return found


def dump_of(url: str) -> str:
    """What `pg_dump` writes of this database, in small letters."""
    command = ["pg_dump", libpq_url(url)]
    env = on_path(os.environ)
    dumped = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return dumped.stdout.lower()
