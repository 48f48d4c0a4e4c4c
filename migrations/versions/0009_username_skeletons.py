"""what names look like, so that no new name can be confused with another"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# A release that does not know the column, or SQL by hand, gives a user another name: what it looks
# like is unknown then, and the next user that is added or renamed has it made anew.
FORGET = """
CREATE FUNCTION scopegate_forget_skeleton() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.username_skeleton := NULL;
    RETURN NEW;
END $$
"""
TRIGGER = """
CREATE TRIGGER users_forget_skeleton BEFORE UPDATE ON users FOR EACH ROW
WHEN (
    OLD.username IS DISTINCT FROM NEW.username
    AND OLD.username_skeleton IS NOT DISTINCT FROM NEW.username_skeleton
)
EXECUTE FUNCTION scopegate_forget_skeleton()
"""


def upgrade() -> None:
    op.execute(lock_tables(alone=["users"]))
    # Filled in by `fill_in_skeletons` after this transaction, a batch at a time: it would lock all
    # users for as long as it takes.
    op.add_column("users", sa.Column("username_skeleton", sa.LargeBinary(), nullable=True))
    op.create_index(op.f("ix_users_username_skeleton"), "users", ["username_skeleton"])
    op.execute(FORGET)
    op.execute(TRIGGER)
    op.execute("ALTER TABLE users ENABLE ALWAYS TRIGGER users_forget_skeleton")


def downgrade() -> None:
    op.execute("DROP TRIGGER users_forget_skeleton ON users")
    op.execute("DROP FUNCTION scopegate_forget_skeleton")
    op.drop_column("users", "username_skeleton")
