"""events: the triggers say what happened, and to whom, on a channel of their own"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# The channel `scopegate` says as before what may not be remembered any more: the previous release
# would take a payload that it does not know for a change of everything. The new channel says what
# happened, as `type` and ids; app/db/events.py reads it. Only functions are replaced, so no table
# is locked. They run with a search path of their own: the schema of the tables is put in for
# SCHEMA, which in app/db/triggers.sql stands behind FROM alone.
FUNCTIONS = """
DO $do$
BEGIN
    EXECUTE replace($sql$
CREATE OR REPLACE FUNCTION scopegate_notify_row() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    events constant text := 'scopegate_events';
    ended uuid[];
    each uuid;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(OLD) ->> TG_ARGV[1]));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(NEW) ->> TG_ARGV[1]));
    END IF;
    IF TG_TABLE_NAME <> 'users' THEN
        -- Postgres sends equal notifications of a transaction once.
        IF TG_OP <> 'INSERT' THEN
            PERFORM pg_notify(events, 'grants-changed ' || OLD.user_id);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            PERFORM pg_notify(events, 'grants-changed ' || NEW.user_id);
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_notify(events, 'account-purged ' || OLD.id);
        RETURN NULL;
    END IF;
    IF NEW.session_epoch > OLD.session_epoch THEN
        -- A session that stays has the new epoch already.
        IF NEW.disabled_at IS NOT NULL OR NOT EXISTS (
            SELECT FROM SCHEMA.sessions
            WHERE user_id = NEW.id AND epoch >= NEW.session_epoch AND ended_at IS NULL
                AND expires_at > now() AND idle_expires_at > now()
        ) THEN
            PERFORM pg_notify(events, 'session-revoked ' || OLD.id);
        ELSE
            ended := ARRAY(
                SELECT id FROM SCHEMA.sessions
                WHERE user_id = OLD.id AND epoch >= OLD.session_epoch
                    AND epoch < NEW.session_epoch AND ended_at IS NULL
                    AND expires_at > now() AND idle_expires_at > now()
                LIMIT 101
            );
            -- The session of a login that overlaps with this can't be seen yet. So its tokens are
            -- asked about.
            PERFORM pg_notify(events, 'grants-changed ' || OLD.id);
            IF cardinality(ended) <= 100 THEN
                FOREACH each IN ARRAY ended LOOP
                    PERFORM pg_notify(events, 'session-revoked ' || OLD.id || ' ' || each);
                END LOOP;
            END IF;
        END IF;
    END IF;
    IF OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL THEN
        PERFORM pg_notify(events, 'account-disabled ' || OLD.id);
    ELSIF OLD.disabled_at IS NOT NULL AND NEW.disabled_at IS NULL THEN
        PERFORM pg_notify(events, 'account-enabled ' || OLD.id);
    END IF;
    IF (OLD.id, OLD.username, OLD.kind, OLD.created_at)
        IS DISTINCT FROM (NEW.id, NEW.username, NEW.kind, NEW.created_at)
        OR NEW.session_epoch < OLD.session_epoch
    THEN
        PERFORM pg_notify(events, 'grants-changed ' || OLD.id);
        PERFORM pg_notify(events, 'grants-changed ' || NEW.id);
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION scopegate_notify_session() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    events constant text := 'scopegate_events';
    counted constant text := 'scopegate.sessions_notified';
    notified integer := coalesce(nullif(current_setting(counted, true), ''), '0');
    event text := 'session-revoked ';
BEGIN
    IF EXISTS (
        SELECT FROM SCHEMA.users WHERE id = OLD.user_id AND session_epoch > OLD.epoch
    ) THEN
        RETURN NULL;  -- The user's row has notified that this session ended.
    END IF;
    IF notified >= 100 THEN
        -- Postgres sends equal notifications of a transaction once.
        PERFORM pg_notify('scopegate', 'user ' || OLD.user_id);
        PERFORM pg_notify(events, 'grants-changed ' || OLD.user_id);
        RETURN NULL;
    END IF;
    PERFORM set_config(counted, (notified + 1)::text, true);
    IF notified < TG_ARGV[0]::integer THEN
        PERFORM pg_notify('scopegate', 'session ' || OLD.id);
    ELSE
        PERFORM pg_notify('scopegate', 'user ' || OLD.user_id);
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.ended_at IS NULL AND NEW.expires_at > now()
        AND NEW.idle_expires_at > now() AND NEW.epoch >= OLD.epoch
        AND NEW.user_id = OLD.user_id AND NEW.id = OLD.id
    THEN
        event := 'grants-changed ';  -- It ends sooner than before, but not yet.
    END IF;
    -- If the user was erased with it, their row has notified.
    IF EXISTS (SELECT FROM SCHEMA.users WHERE id = OLD.user_id) THEN
        PERFORM pg_notify(events, event || OLD.user_id || ' ' || OLD.id);
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION scopegate_notify_token() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counted constant text := 'scopegate.tokens_notified';
    notified integer := coalesce(nullif(current_setting(counted, true), ''), '0');
    event text := 'everything';
BEGIN
    IF notified < TG_ARGV[0]::integer THEN
        PERFORM set_config(counted, (notified + 1)::text, true);
        PERFORM pg_notify('scopegate', 'token ' || encode(OLD.digest, 'hex'));
        event := 'token-revoked ' || OLD.token_id;
    ELSE
        PERFORM pg_notify('scopegate', 'everything');
    END IF;
    -- Of a token that went with its session, the session's row says it.
    IF EXISTS (SELECT FROM SCHEMA.sessions WHERE id = OLD.session_id) THEN
        PERFORM pg_notify('scopegate_events', event);
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION scopegate_notify_table() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('scopegate', TG_ARGV[0]);
    PERFORM pg_notify('scopegate_events', CASE TG_ARGV[0]
        WHEN 'scopes' THEN 'scopes-changed'
        WHEN 'keys' THEN 'keys-changed'
        ELSE 'everything'
    END);
    RETURN NULL;
END $$;
    $sql$, 'SCHEMA', quote_ident(current_schema()));
END $do$
"""
# Those of migrations 0003 and 0007, as they were.
REPLACED = """
DO $do$
BEGIN
    EXECUTE replace($sql$
CREATE OR REPLACE FUNCTION scopegate_notify_row() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(OLD) ->> TG_ARGV[1]));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(NEW) ->> TG_ARGV[1]));
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION scopegate_notify_session() RETURNS trigger LANGUAGE plpgsql
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
CREATE OR REPLACE FUNCTION scopegate_notify_token() RETURNS trigger LANGUAGE plpgsql
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
END $$;
CREATE OR REPLACE FUNCTION scopegate_notify_table() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('scopegate', TG_ARGV[0]);
    RETURN NULL;
END $$;
    $sql$, 'SCHEMA', quote_ident(current_schema()));
END $do$
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)


def downgrade() -> None:
    op.execute(REPLACED)
