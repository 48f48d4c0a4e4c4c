"""budgets of failed logins, networks that people have signed in from"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(lock_tables(against_writes=["users"]))
    # Unlogged: a crash of Postgres empties it, which makes every budget whole, and nothing else.
    op.create_table(
        "failure_budgets",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("open_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_failure_budgets")),
        prefixes=["UNLOGGED"],
    )
    op.create_index(op.f("ix_failure_budgets_open_at"), "failure_budgets", ["open_at"])
    op.create_table(
        "known_networks",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "network", name=op.f("pk_known_networks")),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_known_networks_user_id_users"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_known_networks_signed_in_at"), "known_networks", ["signed_in_at"])


def downgrade() -> None:
    op.drop_table("known_networks")
    op.drop_table("failure_budgets")
