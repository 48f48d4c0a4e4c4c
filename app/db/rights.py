"""What the service's own role may do, where another role owns the tables.

Triggers keep the audit log append-only, and only a table's owner can switch those off. So a service
that does not own its tables can't rewrite the log, also when its connection is stolen.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.base import Base

ALL = "SELECT, INSERT, UPDATE, DELETE"
RESTRICTED_RIGHTS = {
    # Housekeeping locks old entries, for which Postgres wants UPDATE on some column, and deletes
    # them. The triggers refuse every UPDATE, and to delete young entries.
    "audit_entries": "SELECT, INSERT, DELETE, UPDATE (id)",
    "alembic_version": "SELECT",
}


async def grant_rights(connection: AsyncConnection, role: str) -> None:
    """Grant a role what a serving process needs on all tables, and nothing beyond that.

    The caller owns the tables. Rights on them that the role has from an earlier version are taken
    back. Raises sqlalchemy.exc.ProgrammingError when there is no such role.
    """
    quote = connection.dialect.identifier_preparer.quote
    name = quote(role)
    schema = quote(str(await connection.scalar(text("SELECT current_schema()"))))
    statements = [f"GRANT USAGE ON SCHEMA {schema} TO {name}"]
    for table in sorted({*Base.metadata.tables, *RESTRICTED_RIGHTS}):
        statements.append(f"REVOKE ALL ON {quote(table)} FROM {name}")
        statements.append(f"GRANT {RESTRICTED_RIGHTS.get(table, ALL)} ON {quote(table)} TO {name}")
    for statement in statements:
        await connection.execute(text(statement))
