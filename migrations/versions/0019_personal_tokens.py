"""personal access tokens: sessions of a kind of their own, and their secrets"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# A token that goes with the end of its session, or with the session's row, needs no word: the
# session's row or the user's has said it. What is left is a row that was changed by hand.
NOTIFY = """
DO $do$
BEGIN
    EXECUTE replace($sql$
CREATE FUNCTION scopegate_notify_personal_token() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted constant text := 'scopegate.tokens_notified';
    notified integer := coalesce(nullif(current_setting(counted, true), ''), '0');
BEGIN
    IF NOT EXISTS (
        SELECT FROM SCHEMA.sessions
        WHERE id = OLD.session_id AND ended_at IS NULL AND expires_at > now() AND EXISTS (
            SELECT FROM SCHEMA.users WHERE id = sessions.user_id AND session_epoch <= epoch
        )
    ) THEN
        RETURN NULL;
    END IF;
    IF notified < TG_ARGV[0]::integer THEN
        PERFORM set_config(counted, (notified + 1)::text, true);
        PERFORM pg_notify('scopegate', 'token ' || encode(OLD.digest, 'hex'));
        PERFORM pg_notify('scopegate_events', 'token-revoked ' || OLD.session_id);
    ELSE
        -- Postgres sends equal notifications of a transaction once.
        PERFORM pg_notify('scopegate', 'everything');
        PERFORM pg_notify('scopegate_events', 'everything');
    END IF;
    RETURN NULL;
END $$;
    $sql$, 'SCHEMA', quote_ident(current_schema()));
END $do$
"""
ONE_BY_ONE = 16
"""Tokens that a transaction notifies of one by one."""
OF_TOKEN = f"FOR EACH ROW EXECUTE FUNCTION scopegate_notify_personal_token({ONE_BY_ONE})"
TRIGGERS = {
    "UPDATE": OF_TOKEN,
    "DELETE": OF_TOKEN,
    "TRUNCATE": "FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything')",
}


def upgrade() -> None:
    op.execute(lock_tables(alone=["sessions"], against_writes=["users"]))
    # NULL is a login, as every session is that the previous release opens.
    op.add_column("sessions", sa.Column("token_name", sa.String(), nullable=True))
    op.create_table(
        "personal_tokens",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ticket", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_personal_tokens")),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name=op.f("fk_personal_tokens_session_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_personal_tokens_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("digest", name=op.f("uq_personal_tokens_digest")),
        sa.UniqueConstraint("ticket", name=op.f("uq_personal_tokens_ticket")),
    )
    op.create_index(
        op.f("ix_personal_tokens_user_id_expires_at"), "personal_tokens", ["user_id", "expires_at"]
    )
    op.execute(NOTIFY)
    for event, action in TRIGGERS.items():
        name = f"personal_tokens_notify_{event.lower()}"
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON personal_tokens {action}")
        op.execute(f"ALTER TABLE personal_tokens ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    # Without the column these would be logins, which count towards a person's most.
    op.execute("DELETE FROM sessions WHERE token_name IS NOT NULL")
    op.drop_table("personal_tokens")
    op.execute("DROP FUNCTION scopegate_notify_personal_token")
    op.drop_column("sessions", "token_name")
