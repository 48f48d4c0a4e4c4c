-- Made by: python -m tests.generated_triggers

-- function refuse_to_rewrite_the_audit_log
CREATE OR REPLACE FUNCTION refuse_to_rewrite_the_audit_log()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege'; END $function$;

-- function scopegate_notify_row
CREATE OR REPLACE FUNCTION scopegate_notify_row()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(OLD) ->> TG_ARGV[1]));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_notify('scopegate', TG_ARGV[0] || ' ' || (to_jsonb(NEW) ->> TG_ARGV[1]));
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
    RETURN NULL;
END $function$;

-- trigger audit_entries.never_removed_young
CREATE TRIGGER never_removed_young BEFORE DELETE ON audit_entries FOR EACH ROW WHEN (old.at > (now() - '30 days'::interval)) EXECUTE FUNCTION refuse_to_rewrite_the_audit_log();

-- trigger audit_entries.never_rewritten
CREATE TRIGGER never_rewritten BEFORE UPDATE OR TRUNCATE ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_the_audit_log();

-- trigger grants.grants_notify_insert
CREATE TRIGGER grants_notify_insert AFTER INSERT OR DELETE OR UPDATE ON grants FOR EACH ROW EXECUTE FUNCTION scopegate_notify_row('user', 'user_id');

-- trigger grants.grants_notify_truncate
CREATE TRIGGER grants_notify_truncate AFTER TRUNCATE ON grants FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger opaque_tokens.opaque_tokens_notify_delete
CREATE TRIGGER opaque_tokens_notify_delete AFTER DELETE ON opaque_tokens FOR EACH ROW WHEN (old.expires_at > now()) EXECUTE FUNCTION scopegate_notify_row('token', 'digest');

-- trigger opaque_tokens.opaque_tokens_notify_truncate
CREATE TRIGGER opaque_tokens_notify_truncate AFTER TRUNCATE ON opaque_tokens FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger opaque_tokens.opaque_tokens_notify_update
CREATE TRIGGER opaque_tokens_notify_update AFTER UPDATE ON opaque_tokens FOR EACH ROW EXECUTE FUNCTION scopegate_notify_row('token', 'digest');

-- trigger scopes.scopes_notify_insert
CREATE TRIGGER scopes_notify_insert AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON scopes FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('scopes');

-- trigger sessions.sessions_notify_delete
CREATE TRIGGER sessions_notify_delete AFTER DELETE ON sessions FOR EACH ROW WHEN (old.ended_at IS NULL AND old.expires_at > now()) EXECUTE FUNCTION scopegate_notify_row('session', 'id');

-- trigger sessions.sessions_notify_truncate
CREATE TRIGGER sessions_notify_truncate AFTER TRUNCATE ON sessions FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger sessions.sessions_notify_update
CREATE TRIGGER sessions_notify_update AFTER UPDATE ON sessions FOR EACH ROW WHEN (old.ended_at IS DISTINCT FROM new.ended_at OR old.expires_at > new.expires_at OR old.idle_expires_at > new.idle_expires_at OR old.user_id <> new.user_id OR old.id <> new.id) EXECUTE FUNCTION scopegate_notify_row('session', 'id');

-- trigger signing_keys.signing_keys_notify_insert
CREATE TRIGGER signing_keys_notify_insert AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON signing_keys FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('keys');

-- trigger users.users_notify_delete
CREATE TRIGGER users_notify_delete AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION scopegate_notify_row('user', 'id');

-- trigger users.users_notify_truncate
CREATE TRIGGER users_notify_truncate AFTER TRUNCATE ON users FOR EACH STATEMENT EXECUTE FUNCTION scopegate_notify_table('everything');

-- trigger users.users_notify_update
CREATE TRIGGER users_notify_update AFTER UPDATE ON users FOR EACH ROW WHEN (old.id IS DISTINCT FROM new.id OR old.username::text IS DISTINCT FROM new.username::text OR old.kind::text IS DISTINCT FROM new.kind::text OR old.created_at IS DISTINCT FROM new.created_at OR old.disabled_at IS DISTINCT FROM new.disabled_at) EXECUTE FUNCTION scopegate_notify_row('user', 'id');
