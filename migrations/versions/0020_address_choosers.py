"""addresses: which manager has chosen them, in place of whether one has"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# An address that waits to be confirmed was chosen by a manager too, unless its person has signed up
# with it. Which manager is not known: no user has this id, so they may manage no account.
FILL_IN = """
UPDATE users SET email_chosen_by = '00000000-0000-0000-0000-000000000000'
WHERE email_by_other OR (
    email IS NOT NULL AND email_verified_at IS NULL
    AND NOT EXISTS (SELECT FROM sign_ups WHERE user_id = users.id)
)
"""


def upgrade() -> None:
    op.execute(lock_tables(alone=["users"]))
    op.add_column("users", sa.Column("email_chosen_by", sa.Uuid(), nullable=True))
    op.execute(FILL_IN)
    # No release has had this column.
    op.execute("-- squawk-ignore ban-drop-column\nALTER TABLE users DROP COLUMN email_by_other")


def downgrade() -> None:
    op.execute(lock_tables(alone=["users"]))
    op.add_column(
        "users",
        sa.Column("email_by_other", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.execute("UPDATE users SET email_by_other = true WHERE email_chosen_by IS NOT NULL")
    op.drop_column("users", "email_chosen_by")
