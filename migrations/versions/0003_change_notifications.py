"""the database tells of its changes: triggers that notify in the writing transaction"""

from alembic import op

from app.db.table_locks import lock_tables

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What is told is `kind key`, or a kind alone; app/db/changes.py reads it.
NOTIFY_ROW = """
CREATE FUNCTION scopegate_notify_row() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(OLD) ->> TG_ARGV[1]));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(NEW) ->> TG_ARGV[1]));
    END IF;
    RETURN NULL;
END $$
"""
NOTIFY_TABLE = """
CREATE FUNCTION scopegate_notify_table() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('scopegate', TG_ARGV[0]);
    RETURN NULL;
END $$
"""
# A refresh only makes a session live longer, and nobody need hear of that.
SESSION_CUT_SHORT = """
    OLD.ended_at IS DISTINCT FROM NEW.ended_at
    OR OLD.expires_at > NEW.expires_at
    OR OLD.idle_expires_at > NEW.idle_expires_at
    OR OLD.user_id <> NEW.user_id
    OR OLD.id <> NEW.id
"""
USER_CHANGED = """
    (OLD.id, OLD.username, OLD.kind, OLD.created_at, OLD.disabled_at)
    IS DISTINCT FROM (NEW.id, NEW.username, NEW.kind, NEW.created_at, NEW.disabled_at)
"""
TABLES = ["users", "grants", "sessions", "opaque_tokens", "scopes", "signing_keys"]
ROW_TRIGGERS = [
    ("users", "UPDATE", USER_CHANGED, "'user', 'id'"),
    ("users", "DELETE", None, "'user', 'id'"),
    ("grants", "INSERT OR UPDATE OR DELETE", None, "'user', 'user_id'"),
    ("sessions", "UPDATE", SESSION_CUT_SHORT, "'session', 'id'"),
    # Housekeeping deletes what has ended or expired, and nobody need hear of that either.
    ("sessions", "DELETE", "OLD.ended_at IS NULL AND OLD.expires_at > now()", "'session', 'id'"),
    ("opaque_tokens", "UPDATE", None, "'token', 'digest'"),
    ("opaque_tokens", "DELETE", "OLD.expires_at > now()", "'token', 'digest'"),
]
TABLE_TRIGGERS = [
    ("users", "TRUNCATE", "'everything'"),
    ("grants", "TRUNCATE", "'everything'"),
    ("sessions", "TRUNCATE", "'everything'"),
    ("opaque_tokens", "TRUNCATE", "'everything'"),
    ("scopes", "INSERT OR UPDATE OR DELETE OR TRUNCATE", "'scopes'"),
    ("signing_keys", "INSERT OR UPDATE OR DELETE OR TRUNCATE", "'keys'"),
]


def upgrade() -> None:
    op.execute(lock_tables(against_writes=TABLES))
    op.execute(NOTIFY_ROW)
    op.execute(NOTIFY_TABLE)
    for table, events, condition, arguments in ROW_TRIGGERS:
        when = f"WHEN ({condition}) " if condition else ""
        function = f"scopegate_notify_row({arguments})"
        _create_trigger(table, events, f"FOR EACH ROW {when}EXECUTE FUNCTION {function}")
    for table, events, arguments in TABLE_TRIGGERS:
        function = f"scopegate_notify_table({arguments})"
        _create_trigger(table, events, f"FOR EACH STATEMENT EXECUTE FUNCTION {function}")


def downgrade() -> None:
    op.execute("DROP FUNCTION scopegate_notify_row CASCADE")
    op.execute("DROP FUNCTION scopegate_notify_table CASCADE")


def _create_trigger(table: str, events: str, action: str) -> None:
    name = f"{table}_notify_{events.split(' ')[0].lower()}"
    op.execute(f"CREATE TRIGGER {name} AFTER {events} ON {table} {action}")
    # Also for what replication applies: it takes rights away as well as anybody.
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
