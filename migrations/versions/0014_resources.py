"""resources: which service a scope belongs to, and a token is for"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.db.table_locks import lock_tables

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(lock_tables(alone=["scopes", "sessions", "authorization_codes", "opaque_tokens"]))
    op.add_column("scopes", sa.Column("resource", sa.String(), nullable=True))
    # Of those below, the previous release writes NULL, which is as before.
    op.add_column("sessions", sa.Column("resources", _strings(), nullable=True))
    op.add_column("authorization_codes", sa.Column("resources", _strings(), nullable=True))
    op.add_column("opaque_tokens", sa.Column("audience", sa.String(), nullable=True))


def downgrade() -> None:
    # Without the columns these would be for this service.
    op.execute("DELETE FROM sessions WHERE resources IS NOT NULL")
    op.execute("DELETE FROM authorization_codes WHERE resources IS NOT NULL")
    op.drop_column("scopes", "resource")
    for table in ("sessions", "authorization_codes"):
        op.drop_column(table, "resources")
    op.drop_column("opaque_tokens", "audience")


def _strings() -> postgresql.ARRAY[str]:
    return postgresql.ARRAY(sa.String())
