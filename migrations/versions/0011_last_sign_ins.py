"""when each user has signed in last"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(lock_tables(alone=["users"]))
    # NULL until the next sign-in: the sessions that would tell are removed after a while, and to
    # fill it in here would lock all users. A release that does not know the column leaves it alone.
    op.add_column("users", sa.Column("last_sign_in_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("users", "last_sign_in_at")
