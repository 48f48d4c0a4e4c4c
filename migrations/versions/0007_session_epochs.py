"""session epochs: ending all of a user's sessions changes one row, and notifies once"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

LOCKED = ["users", "sessions", "opaque_tokens", "scopes", "signing_keys"]
# They run with a search path of their own, so the schema of the tables is put in for SCHEMA.
FUNCTIONS = """
DO $do$
BEGIN
    EXECUTE replace($sql$
CREATE FUNCTION scopegate_session_epoch() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.epoch := coalesce((SELECT session_epoch FROM SCHEMA.users WHERE id = NEW.user_id), 0);
    RETURN NEW;
END $$;
CREATE FUNCTION scopegate_end_sessions_of_disabled() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.session_epoch := OLD.session_epoch + 1;
    RETURN NEW;
END $$;
-- A transaction that ends many sessions notifies of the first by session, then once per user.
CREATE FUNCTION scopegate_notify_session() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted constant text := 'scopegate.sessions_notified';
    notified integer := coalesce(nullif(current_setting(counted, true), ''), '0');
BEGIN
    IF EXISTS (
        SELECT FROM SCHEMA.users WHERE id = OLD.user_id AND session_epoch > OLD.epoch
    ) THEN
        RETURN NULL;  -- The user's row has notified that this session ended.
    END IF;
    IF notified < TG_ARGV[0]::integer THEN
        PERFORM set_config(counted, (notified + 1)::text, true);
        PERFORM pg_notify('scopegate', 'session ' || OLD.id);
    ELSE
        -- Postgres sends equal notifications of a transaction once.
        PERFORM pg_notify('scopegate', 'user ' || OLD.user_id);
    END IF;
    RETURN NULL;
END $$;
    $sql$, 'SCHEMA', quote_ident(current_schema()));
END $do$
"""
NOTIFY_TOKEN = """
CREATE FUNCTION scopegate_notify_token() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted constant text := 'scopegate.tokens_notified';
    notified integer := coalesce(nullif(current_setting(counted, true), ''), '0');
BEGIN
    IF notified < TG_ARGV[0]::integer THEN
        PERFORM set_config(counted, (notified + 1)::text, true);
        PERFORM pg_notify('scopegate', 'token ' || encode(OLD.digest, 'hex'));
    ELSE
        PERFORM pg_notify('scopegate', 'everything');
    END IF;
    RETURN NULL;
END $$
"""
ONE_BY_ONE = 16
"""Sessions or tokens that a transaction notifies of one by one."""
SESSION_WAS_LIVE = """
    OLD.ended_at IS NULL AND OLD.expires_at > now() AND OLD.idle_expires_at > now()
"""
# A refresh only makes a session live longer: no notification. Asked first, as most updates are
# refreshes.
SESSION_CUT_SHORT = """
    (NEW.ended_at IS NOT NULL
        OR NEW.expires_at < OLD.expires_at
        OR NEW.idle_expires_at < OLD.idle_expires_at
        OR NEW.epoch < OLD.epoch
        OR NEW.user_id <> OLD.user_id
        OR NEW.id <> OLD.id)
"""
USER_CHANGED = """
    (OLD.id, OLD.username, OLD.kind, OLD.created_at, OLD.disabled_at, OLD.session_epoch)
    IS DISTINCT FROM
    (NEW.id, NEW.username, NEW.kind, NEW.created_at, NEW.disabled_at, NEW.session_epoch)
"""
NEWLY_DISABLED = """
    OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL
    AND NEW.session_epoch = OLD.session_epoch
"""
Trigger = tuple[str, str, str]
"""Its name, on what event it fires, and what it does."""
ROW = "FOR EACH ROW"
TRIGGERS: list[Trigger] = [
    # Of a login by the release before, or by hand.
    (
        "sessions_epoch",
        "BEFORE INSERT ON sessions",
        f"{ROW} WHEN (NEW.epoch IS NULL) EXECUTE FUNCTION scopegate_session_epoch()",
    ),
    # Also of somebody who is disabled by hand: enabling revives no session.
    (
        "users_end_sessions",
        "BEFORE UPDATE ON users",
        f"{ROW} WHEN ({NEWLY_DISABLED}) EXECUTE FUNCTION scopegate_end_sessions_of_disabled()",
    ),
    (
        "users_notify_update",
        "AFTER UPDATE ON users",
        f"{ROW} WHEN ({USER_CHANGED}) EXECUTE FUNCTION scopegate_notify_row('user', 'id')",
    ),
    (
        "sessions_notify_update",
        "AFTER UPDATE ON sessions",
        f"{ROW} WHEN ({SESSION_CUT_SHORT} AND {SESSION_WAS_LIVE}) "
        f"EXECUTE FUNCTION scopegate_notify_session({ONE_BY_ONE})",
    ),
    (
        "sessions_notify_delete",
        "AFTER DELETE ON sessions",
        f"{ROW} WHEN ({SESSION_WAS_LIVE}) EXECUTE FUNCTION scopegate_notify_session({ONE_BY_ONE})",
    ),
    (
        "opaque_tokens_notify_update",
        "AFTER UPDATE ON opaque_tokens",
        f"{ROW} EXECUTE FUNCTION scopegate_notify_token({ONE_BY_ONE})",
    ),
    (
        "opaque_tokens_notify_delete",
        "AFTER DELETE ON opaque_tokens",
        f"{ROW} WHEN (OLD.expires_at > now()) "
        f"EXECUTE FUNCTION scopegate_notify_token({ONE_BY_ONE})",
    ),
]
# By row: a subscription of logical replication fires no statement trigger, except on TRUNCATE.
TRIGGERS += [
    trigger
    for table, kind in (("scopes", "scopes"), ("signing_keys", "keys"))
    for trigger in (
        (
            f"{table}_notify_insert",
            f"AFTER INSERT OR UPDATE OR DELETE ON {table}",
            f"{ROW} EXECUTE FUNCTION scopegate_notify_table('{kind}')",
        ),
        (
            f"{table}_notify_truncate",
            f"AFTER TRUNCATE ON {table}",
            f"FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('{kind}')",
        ),
    )
]


REPLACED: list[Trigger] = [
    (
        "users_notify_update",
        "AFTER UPDATE ON users",
        f"{ROW} WHEN ((OLD.id, OLD.username, OLD.kind, OLD.created_at, OLD.disabled_at) "
        "IS DISTINCT FROM (NEW.id, NEW.username, NEW.kind, NEW.created_at, NEW.disabled_at)) "
        "EXECUTE FUNCTION scopegate_notify_row('user', 'id')",
    ),
    (
        "sessions_notify_update",
        "AFTER UPDATE ON sessions",
        f"{ROW} WHEN (OLD.ended_at IS DISTINCT FROM NEW.ended_at "
        "OR OLD.expires_at > NEW.expires_at OR OLD.idle_expires_at > NEW.idle_expires_at "
        "OR OLD.user_id <> NEW.user_id OR OLD.id <> NEW.id) "
        "EXECUTE FUNCTION scopegate_notify_row('session', 'id')",
    ),
    (
        "sessions_notify_delete",
        "AFTER DELETE ON sessions",
        f"{ROW} WHEN (OLD.ended_at IS NULL AND OLD.expires_at > now()) "
        "EXECUTE FUNCTION scopegate_notify_row('session', 'id')",
    ),
    (
        "opaque_tokens_notify_update",
        "AFTER UPDATE ON opaque_tokens",
        f"{ROW} EXECUTE FUNCTION scopegate_notify_row('token', 'digest')",
    ),
    (
        "opaque_tokens_notify_delete",
        "AFTER DELETE ON opaque_tokens",
        f"{ROW} WHEN (OLD.expires_at > now()) "
        "EXECUTE FUNCTION scopegate_notify_row('token', 'digest')",
    ),
    *(
        (
            f"{table}_notify_insert",
            f"AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}",
            f"FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('{kind}')",
        )
        for table, kind in (("scopes", "scopes"), ("signing_keys", "keys"))
    ),
]
"""Those of migration 0003, as they were."""


def upgrade() -> None:
    op.execute(lock_tables(alone=LOCKED))
    for table, name in (
        ("users", "session_epoch"),
        ("users", "ended_epoch"),
        ("sessions", "epoch"),
    ):
        column = sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)
        op.add_column(table, column)
    # Rows that are there are of epoch 0; a new one is of its user's, by the trigger.
    op.alter_column("sessions", "epoch", server_default=None)
    _replace_indexes()
    op.execute(FUNCTIONS)
    op.execute(NOTIFY_TOKEN)
    _replace_triggers(REPLACED, TRIGGERS)


def _replace_indexes() -> None:
    # A login or a refresh writes every index of `sessions` that its row is in: three now, not four.
    op.drop_index("ix_sessions_user_id_id", "sessions")
    op.create_index(
        "ix_sessions_live",
        "sessions",
        ["user_id", "epoch", "expires_at", "id"],
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.drop_index("ix_sessions_ended_at", "sessions")
    op.create_index(
        "ix_sessions_ended_at",
        "sessions",
        ["ended_at"],
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_users_behind",
        "users",
        ["id"],
        postgresql_where=sa.text("ended_epoch < session_epoch"),
    )


def _replace_triggers(old: list[Trigger], new: list[Trigger]) -> None:
    for name, event, _ in old:
        op.execute(f"DROP TRIGGER {name} ON {event.split()[-1]}")
    for name, event, action in new:
        op.execute(f"CREATE TRIGGER {name} {event} {action}")
        # Also for what replication applies.
        op.execute(f"ALTER TABLE {event.split()[-1]} ENABLE ALWAYS TRIGGER {name}")


def downgrade() -> None:
    # Without epochs, these sessions would be live again.
    op.execute(
        "UPDATE sessions SET ended_at = now(), end_reason = 'all sessions ended' FROM users "
        "WHERE users.id = sessions.user_id AND sessions.epoch < users.session_epoch "
        "AND sessions.ended_at IS NULL"
    )
    _replace_triggers(TRIGGERS, REPLACED)
    for name in ("session_epoch", "end_sessions_of_disabled", "notify_session", "notify_token"):
        op.execute(f"DROP FUNCTION scopegate_{name}")
    op.drop_index("ix_users_behind", "users")
    op.drop_index("ix_sessions_ended_at", "sessions")
    op.drop_index("ix_sessions_live", "sessions")
    op.create_index("ix_sessions_ended_at", "sessions", ["ended_at"])
    op.create_index("ix_sessions_user_id_id", "sessions", ["user_id", "id"])
    op.drop_column("sessions", "epoch")
    op.drop_column("users", "ended_epoch")
    op.drop_column("users", "session_epoch")
