"""the audit log, append-only in every session"""

from alembic import op

from app.db.table_locks import lock_tables

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TRIGGERS = ("never_rewritten", "never_removed_young")


def upgrade() -> None:
    op.execute(lock_tables(against_writes=["audit_entries"]))
    # As they were made, they rest in a session that says session_replication_role = replica, which
    # a superuser may.
    for trigger in TRIGGERS:
        op.execute(f"ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER {trigger}")


def downgrade() -> None:
    for trigger in TRIGGERS:
        op.execute(f"ALTER TABLE audit_entries ENABLE TRIGGER {trigger}")
