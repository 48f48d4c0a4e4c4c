"""the audit log, append-only"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("actor", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.Uuid(), nullable=True),
        sa.Column("detail", postgresql.JSONB(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    for column in ("action", "actor", "subject"):
        op.create_index(op.f(f"ix_audit_entries_{column}_id"), "audit_entries", [column, "id"])
    op.create_index(op.f("ix_audit_entries_at"), "audit_entries", ["at"], postgresql_using="brin")
    # The service's role owns its tables, since it migrates them, so no REVOKE would bind it. These
    # triggers do, also in an injected statement: only by DDL could it get rid of them. What may go
    # is told by age and not by a setting of the transaction, which whoever can delete could make
    # as well. SCOPEGATE_AUDIT_KEPT can't be shorter than these 30 days.
    op.execute(
        "CREATE FUNCTION refuse_to_rewrite_the_audit_log() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only' "
        "USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    op.execute(
        "CREATE TRIGGER never_rewritten BEFORE UPDATE OR TRUNCATE ON audit_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_the_audit_log()"
    )
    op.execute(
        "CREATE TRIGGER never_removed_young BEFORE DELETE ON audit_entries "
        "FOR EACH ROW WHEN (OLD.at > now() - interval '30 days') "
        "EXECUTE FUNCTION refuse_to_rewrite_the_audit_log()"
    )


def downgrade() -> None:
    op.drop_table("audit_entries")
    op.execute("DROP FUNCTION refuse_to_rewrite_the_audit_log()")
