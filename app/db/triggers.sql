-- Made by: python -m tests.generated_triggers

-- function refuse_to_rewrite_the_audit_log
CREATE OR REPLACE FUNCTION refuse_to_rewrite_the_audit_log()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege'; END $function$;

-- function scopegate_end_sessions_of_disabled
CREATE OR REPLACE FUNCTION scopegate_end_sessions_of_disabled()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.session_epoch := OLD.session_epoch + 1;
    RETURN NEW;
END $function$;

-- function scopegate_forget_skeleton
CREATE OR REPLACE FUNCTION scopegate_forget_skeleton()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.username_skeleton := NULL;
    RETURN NEW;
END $function$;

-- function scopegate_notify_client
CREATE OR REPLACE FUNCTION scopegate_notify_client()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pg_notify('scopegate', 'client ' || OLD.id);
    PERFORM pg_notify('scopegate_events', 'client-changed ' || OLD.client_id);
    RETURN NULL;
END $function$;

-- function scopegate_notify_erased
CREATE OR REPLACE FUNCTION scopegate_notify_erased()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pg_notify('scopegate', 'user ' || OLD.id);
    PERFORM pg_notify('scopegate_events', 'account-purged ' || OLD.id);
    RETURN NULL;
END $function$;

-- function scopegate_notify_personal_token
CREATE OR REPLACE FUNCTION scopegate_notify_personal_token()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
END $function$;

-- function scopegate_notify_row
CREATE OR REPLACE FUNCTION scopegate_notify_row()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
END $function$;

-- function scopegate_notify_session
CREATE OR REPLACE FUNCTION scopegate_notify_session()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
END $function$;

-- function scopegate_notify_table
CREATE OR REPLACE FUNCTION scopegate_notify_table()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    PERFORM pg_notify('scopegate', TG_ARGV[0]);
    PERFORM pg_notify('scopegate_events', CASE TG_ARGV[0]
        WHEN 'scopes' THEN 'scopes-changed'
        WHEN 'keys' THEN 'keys-changed'
        ELSE 'everything'
    END);
    RETURN NULL;
END $function$;

-- function scopegate_notify_token
CREATE OR REPLACE FUNCTION scopegate_notify_token()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
END $function$;

-- function scopegate_session_epoch
CREATE OR REPLACE FUNCTION scopegate_session_epoch()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.epoch := coalesce((SELECT session_epoch FROM SCHEMA.users WHERE id = NEW.user_id), 0);
    RETURN NEW;
END $function$;

-- function scopegate_take_names_out
CREATE OR REPLACE FUNCTION scopegate_take_names_out()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF NEW.action = 'grant.made' THEN
        NEW.detail := NEW.detail - 'reason';
    ELSE
        NEW.detail := NEW.detail - 'username' - 'was';
    END IF;
    RETURN NEW;
END $function$;

-- function scopegate_void_links
CREATE OR REPLACE FUNCTION scopegate_void_links()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    NEW.link_epoch := OLD.link_epoch + 1;
    RETURN NEW;
END $function$;

-- trigger audit_entries.audit_entries_without_names
CREATE TRIGGER audit_entries_without_names BEFORE INSERT ON audit_entries FOR EACH ROW WHEN ((new.action::text = 'user.created'::text OR new.action::text = 'user.changed'::text) AND new.detail ?| ARRAY['username'::text, 'was'::text] OR new.action::text = 'grant.made'::text AND (new.detail ->> 'reason'::text) IS NOT NULL) EXECUTE FUNCTION scopegate_take_names_out();

-- trigger audit_entries.never_removed_young
CREATE TRIGGER never_removed_young BEFORE DELETE ON audit_entries FOR EACH ROW WHEN (old.at > (now() - '30 days'::interval)) EXECUTE FUNCTION refuse_to_rewrite_the_audit_log();

-- trigger audit_entries.never_rewritten
CREATE TRIGGER never_rewritten BEFORE UPDATE OR TRUNCATE ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_the_audit_log();

-- trigger clients.clients_notify_delete
CREATE TRIGGER clients_notify_delete AFTER DELETE ON clients FOR EACH ROW EXECUTE FUNCTION scopegate_notify_client();

-- trigger clients.clients_notify_truncate
CREATE TRIGGER clients_notify_truncate AFTER TRUNCATE ON clients FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger clients.clients_notify_update
CREATE TRIGGER clients_notify_update AFTER UPDATE ON clients FOR EACH ROW WHEN (old.id IS DISTINCT FROM new.id OR old.client_id::text IS DISTINCT FROM new.client_id::text OR old.scopes IS DISTINCT FROM new.scopes OR old.trusted IS DISTINCT FROM new.trusted OR old.deleted_at IS DISTINCT FROM new.deleted_at) EXECUTE FUNCTION scopegate_notify_client();

-- trigger consents.consents_notify_delete
CREATE TRIGGER consents_notify_delete AFTER DELETE ON consents FOR EACH ROW EXECUTE FUNCTION scopegate_notify_row('user', 'user_id');

-- trigger consents.consents_notify_truncate
CREATE TRIGGER consents_notify_truncate AFTER TRUNCATE ON consents FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger consents.consents_notify_update
CREATE TRIGGER consents_notify_update AFTER UPDATE ON consents FOR EACH ROW WHEN (old.id IS DISTINCT FROM new.id OR old.user_id IS DISTINCT FROM new.user_id OR old.registration_id IS DISTINCT FROM new.registration_id OR old.scopes IS DISTINCT FROM new.scopes OR old.implied IS DISTINCT FROM new.implied) EXECUTE FUNCTION scopegate_notify_row('user', 'user_id');

-- trigger grants.grants_notify_insert
CREATE TRIGGER grants_notify_insert AFTER INSERT OR DELETE OR UPDATE ON grants FOR EACH ROW EXECUTE FUNCTION scopegate_notify_row('user', 'user_id');

-- trigger grants.grants_notify_truncate
CREATE TRIGGER grants_notify_truncate AFTER TRUNCATE ON grants FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger opaque_tokens.opaque_tokens_notify_delete
CREATE TRIGGER opaque_tokens_notify_delete AFTER DELETE ON opaque_tokens FOR EACH ROW WHEN (old.expires_at > now()) EXECUTE FUNCTION scopegate_notify_token('16');

-- trigger opaque_tokens.opaque_tokens_notify_truncate
CREATE TRIGGER opaque_tokens_notify_truncate AFTER TRUNCATE ON opaque_tokens FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger opaque_tokens.opaque_tokens_notify_update
CREATE TRIGGER opaque_tokens_notify_update AFTER UPDATE ON opaque_tokens FOR EACH ROW EXECUTE FUNCTION scopegate_notify_token('16');

-- trigger personal_tokens.personal_tokens_notify_delete
CREATE TRIGGER personal_tokens_notify_delete AFTER DELETE ON personal_tokens FOR EACH ROW EXECUTE FUNCTION scopegate_notify_personal_token('16');

-- trigger personal_tokens.personal_tokens_notify_truncate
CREATE TRIGGER personal_tokens_notify_truncate AFTER TRUNCATE ON personal_tokens FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger personal_tokens.personal_tokens_notify_update
CREATE TRIGGER personal_tokens_notify_update AFTER UPDATE ON personal_tokens FOR EACH ROW EXECUTE FUNCTION scopegate_notify_personal_token('16');

-- trigger scopes.scopes_notify_insert
CREATE TRIGGER scopes_notify_insert AFTER INSERT OR DELETE OR UPDATE ON scopes FOR EACH ROW EXECUTE FUNCTION scopegate_notify_table('scopes');

-- trigger scopes.scopes_notify_truncate
CREATE TRIGGER scopes_notify_truncate AFTER TRUNCATE ON scopes FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('scopes');

-- trigger sessions.sessions_epoch
CREATE TRIGGER sessions_epoch BEFORE INSERT ON sessions FOR EACH ROW WHEN (new.epoch IS NULL) EXECUTE FUNCTION scopegate_session_epoch();

-- trigger sessions.sessions_notify_delete
CREATE TRIGGER sessions_notify_delete AFTER DELETE ON sessions FOR EACH ROW WHEN (old.ended_at IS NULL AND old.expires_at > now() AND old.idle_expires_at > now()) EXECUTE FUNCTION scopegate_notify_session('16');

-- trigger sessions.sessions_notify_truncate
CREATE TRIGGER sessions_notify_truncate AFTER TRUNCATE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger sessions.sessions_notify_update
CREATE TRIGGER sessions_notify_update AFTER UPDATE ON sessions FOR EACH ROW WHEN ((new.ended_at IS NOT NULL OR new.expires_at < old.expires_at OR new.idle_expires_at < old.idle_expires_at OR new.epoch < old.epoch OR new.user_id <> old.user_id OR new.id <> old.id) AND old.ended_at IS NULL AND old.expires_at > now() AND old.idle_expires_at > now()) EXECUTE FUNCTION scopegate_notify_session('16');

-- trigger signing_keys.signing_keys_notify_insert
CREATE TRIGGER signing_keys_notify_insert AFTER INSERT OR DELETE OR UPDATE ON signing_keys FOR EACH ROW EXECUTE FUNCTION scopegate_notify_table('keys');

-- trigger signing_keys.signing_keys_notify_truncate
CREATE TRIGGER signing_keys_notify_truncate AFTER TRUNCATE ON signing_keys FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('keys');

-- trigger users.users_end_sessions
CREATE TRIGGER users_end_sessions BEFORE UPDATE ON users FOR EACH ROW WHEN (old.disabled_at IS NULL AND new.disabled_at IS NOT NULL AND new.session_epoch = old.session_epoch) EXECUTE FUNCTION scopegate_end_sessions_of_disabled();

-- trigger users.users_forget_skeleton
CREATE TRIGGER users_forget_skeleton BEFORE UPDATE ON users FOR EACH ROW WHEN (old.username::text IS DISTINCT FROM new.username::text AND NOT old.username_skeleton IS DISTINCT FROM new.username_skeleton) EXECUTE FUNCTION scopegate_forget_skeleton();

-- trigger users.users_notify_delete
CREATE TRIGGER users_notify_delete AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION scopegate_notify_row('user', 'id');

-- trigger users.users_notify_erased
CREATE TRIGGER users_notify_erased AFTER UPDATE ON users FOR EACH ROW WHEN (old.erased_at IS NULL AND new.erased_at IS NOT NULL) EXECUTE FUNCTION scopegate_notify_erased();

-- trigger users.users_notify_truncate
CREATE TRIGGER users_notify_truncate AFTER TRUNCATE ON users FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger users.users_notify_update
CREATE TRIGGER users_notify_update AFTER UPDATE ON users FOR EACH ROW WHEN (old.id IS DISTINCT FROM new.id OR old.username::text IS DISTINCT FROM new.username::text OR old.kind::text IS DISTINCT FROM new.kind::text OR old.created_at IS DISTINCT FROM new.created_at OR old.disabled_at IS DISTINCT FROM new.disabled_at OR old.session_epoch IS DISTINCT FROM new.session_epoch OR old.email::text IS DISTINCT FROM new.email::text OR old.email_verified_at IS DISTINCT FROM new.email_verified_at) EXECUTE FUNCTION scopegate_notify_row('user', 'id');

-- trigger users.users_void_links
CREATE TRIGGER users_void_links BEFORE UPDATE ON users FOR EACH ROW WHEN ((old.password_hash::text IS DISTINCT FROM new.password_hash::text OR old.email_key::text IS DISTINCT FROM new.email_key::text OR old.disabled_at IS DISTINCT FROM new.disabled_at) AND new.link_epoch = old.link_epoch) EXECUTE FUNCTION scopegate_void_links();
