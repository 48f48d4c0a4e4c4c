"""erasure of accounts, and an audit log without names"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# What has to go of which entries. The reason of a grant is text, which may name a person.
NAMELESS = """
    (action IN ('user.created', 'user.changed') AND detail ?| ARRAY['username', 'was'])
    OR (action = 'grant.made' AND detail ->> 'reason' IS NOT NULL)
"""
WITHOUT = """
    CASE action
        WHEN 'user.changed' THEN detail - 'username' - 'was' || '{"changed": "username"}'
        WHEN 'user.created' THEN detail - 'username' - 'was'
        ELSE detail - 'reason'
    END
"""
LOCK = lock_tables(alone=["users"], against_writes=["sessions", "audit_entries"])
# To switch the trigger off for its table would make every login wait until this transaction ends,
# and there may be millions of entries. So its function is made to refuse nothing, and then what it
# was, in one transaction: for all others it refuses all the time. Only its owner can do that.
TAKE_NAMES_OUT = f"""
DO $do$
DECLARE
    refusal constant text := pg_get_functiondef('refuse_to_rewrite_the_audit_log()'::regprocedure);
    changed bigint;
    more bigint;
BEGIN
    CREATE OR REPLACE FUNCTION refuse_to_rewrite_the_audit_log() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN RETURN NULL; END';
    UPDATE audit_entries SET detail = {WITHOUT} WHERE {NAMELESS};
    GET DIAGNOSTICS changed = ROW_COUNT;
    -- From here on others wait.
    {LOCK};
    -- The release before has written entries meanwhile, and will write more.
    -- Without IN, which Postgres shows in another way once a dump was restored.
    CREATE TRIGGER audit_entries_without_names BEFORE INSERT ON audit_entries FOR EACH ROW
        WHEN (
            ((NEW.action = 'user.created' OR NEW.action = 'user.changed')
                AND NEW.detail ?| ARRAY['username', 'was'])
            OR (NEW.action = 'grant.made' AND NEW.detail ->> 'reason' IS NOT NULL)
        )
        EXECUTE FUNCTION scopegate_take_names_out();
    ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER audit_entries_without_names;
    UPDATE audit_entries SET detail = {WITHOUT}
        WHERE at >= now() - interval '1 hour' AND ({NAMELESS});
    GET DIAGNOSTICS more = ROW_COUNT;
    changed := changed + more;
    EXECUTE refusal;
    IF changed > 0 THEN
        INSERT INTO audit_entries (id, at, action, detail) VALUES (
            -- A UUIDv7, so that it stands in the log by its time.
            overlay(
                overlay(
                    replace(gen_random_uuid()::text, '-', '') PLACING lpad(
                        to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0'
                    ) FROM 1 FOR 12
                ) PLACING '7' FROM 13 FOR 1
            )::uuid,
            clock_timestamp(),
            'audit.names_removed',
            jsonb_build_object('entries', changed)
        );
    END IF;
END $do$
"""  # noqa: S608 - made of the constants above
TAKE_OUT_OF_NEW = """
CREATE FUNCTION scopegate_take_names_out() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.action = 'grant.made' THEN
        NEW.detail := NEW.detail - 'reason';
    ELSE
        NEW.detail := NEW.detail - 'username' - 'was';
    END IF;
    RETURN NEW;
END $$
"""
NOTIFY_ERASED = """
CREATE FUNCTION scopegate_notify_erased() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('scopegate', 'user ' || OLD.id);
    PERFORM pg_notify('scopegate_events', 'account-purged ' || OLD.id);
    RETURN NULL;
END $$
"""
NOTIFY = """
CREATE TRIGGER users_notify_erased AFTER UPDATE ON users FOR EACH ROW
WHEN (OLD.erased_at IS NULL AND NEW.erased_at IS NOT NULL)
EXECUTE FUNCTION scopegate_notify_erased()
"""


def upgrade() -> None:
    op.create_table(
        "erased_names",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_erased_names")),
    )
    op.create_index(op.f("ix_erased_names_erased_at"), "erased_names", ["erased_at"])
    op.execute(TAKE_OUT_OF_NEW)
    # It keeps VACUUM out, and is in no request's way: else the rewrite could be for nothing.
    op.execute("LOCK TABLE users, sessions, audit_entries IN SHARE UPDATE EXCLUSIVE MODE")
    op.execute(TAKE_NAMES_OUT)
    # The index finds an erased account's sessions, also those
    # that have ended. On a large table it is made beforehand: see docs/how-to/upgrade.md.
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], if_not_exists=True)
    op.add_column("users", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_users_erased",
        "users",
        ["erased_at"],
        postgresql_where=sa.text("erased_at IS NOT NULL"),
    )
    op.create_check_constraint(
        op.f("ck_users_erased"),
        "users",
        "erased_at IS NULL OR (disabled_at IS NOT NULL AND password_hash IS NULL)",
    )
    op.execute(NOTIFY_ERASED)
    op.execute(NOTIFY)
    op.execute("ALTER TABLE users ENABLE ALWAYS TRIGGER users_notify_erased")


def downgrade() -> None:
    # The release before would show them as disabled accounts with odd names.
    op.execute(
        "UPDATE clients SET account_id = NULL FROM users WHERE users.id = account_id AND "
        "erased_at IS NOT NULL"
    )
    op.execute("DELETE FROM users WHERE erased_at IS NOT NULL")
    op.execute("DROP TRIGGER users_notify_erased ON users")
    op.execute("DROP FUNCTION scopegate_notify_erased")
    op.drop_constraint(op.f("ck_users_erased"), "users")
    op.drop_index("ix_users_erased", "users")
    op.drop_column("users", "erased_at")
    op.drop_index(op.f("ix_sessions_user_id"), "sessions")
    op.execute("DROP TRIGGER audit_entries_without_names ON audit_entries")
    op.execute("DROP FUNCTION scopegate_take_names_out")
    op.drop_table("erased_names")
