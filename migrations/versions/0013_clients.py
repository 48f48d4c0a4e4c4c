"""clients, consents, authorization codes, browser sessions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.db.table_locks import lock_tables

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# The previous release takes `client …` for a change of everything, and so forgets enough.
NOTIFY_CLIENT = """
CREATE FUNCTION scopegate_notify_client() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('scopegate', 'client ' || OLD.id);
    PERFORM pg_notify('scopegate_events', 'client-changed ' || OLD.client_id);
    RETURN NULL;
END $$
"""
CLIENT_CHANGED = """
    (OLD.id, OLD.client_id, OLD.scopes, OLD.trusted, OLD.deleted_at)
    IS DISTINCT FROM (NEW.id, NEW.client_id, NEW.scopes, NEW.trusted, NEW.deleted_at)
"""
# When it was used last takes nothing away.
CONSENT_CHANGED = """
    (OLD.id, OLD.user_id, OLD.registration_id, OLD.scopes, OLD.implied)
    IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.registration_id, NEW.scopes, NEW.implied)
"""
OF_CLIENT = "scopegate_notify_client()"
OF_CONSENT = "scopegate_notify_row('user', 'user_id')"
EVERYTHING = "scopegate_notify_table('everything')"
TRIGGERS = [
    ("clients", "UPDATE", f"FOR EACH ROW WHEN ({CLIENT_CHANGED}) EXECUTE FUNCTION {OF_CLIENT}"),
    ("clients", "DELETE", f"FOR EACH ROW EXECUTE FUNCTION {OF_CLIENT}"),
    ("clients", "TRUNCATE", f"FOR EACH STATEMENT EXECUTE FUNCTION {EVERYTHING}"),
    ("consents", "UPDATE", f"FOR EACH ROW WHEN ({CONSENT_CHANGED}) EXECUTE FUNCTION {OF_CONSENT}"),
    ("consents", "DELETE", f"FOR EACH ROW EXECUTE FUNCTION {OF_CONSENT}"),
    ("consents", "TRUNCATE", f"FOR EACH STATEMENT EXECUTE FUNCTION {EVERYTHING}"),
]


# A service that asks for one of them would take the token of an application that got it without a
# grant.
REFUSE_TAKEN = """
DO $$
DECLARE
    taken text;
BEGIN
    SELECT string_agg(name, ', ') INTO taken FROM scopes
    WHERE name IN ('openid', 'profile', 'email', 'offline_access');
    IF taken IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = 'every client may now ask for the scopes of OpenID '
            'Connect, and these are registered for services: ' || taken || '. Register others '
            'in their place, revoke and remove these, then migrate again';
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(lock_tables(alone=["sessions", "signing_keys"], against_writes=["users"]))
    op.execute(REFUSE_TAKEN)
    _create_clients()
    _create_consents()
    # NULL for every session that is there. The previous release opens none of another kind, and
    # refreshes none: it knows no client without a secret.
    op.add_column("sessions", sa.Column("consent_id", sa.Uuid(), nullable=True))
    op.create_table(
        "browser_sessions",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("signed_in_at", _timestamp(), nullable=False),
        sa.Column("methods", _strings(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_browser_sessions")),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name=op.f("fk_browser_sessions_session_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("digest", name=op.f("uq_browser_sessions_digest")),
    )
    _create_codes()
    # The previous release knows no purposes: it verifies by every key, and may sign access tokens
    # by this one where RS256 is chosen. Every key verifies in this release too.
    op.add_column(
        "signing_keys",
        sa.Column("purpose", sa.String(), server_default="access tokens", nullable=False),
    )
    op.execute(NOTIFY_CLIENT)
    for table, event, action in TRIGGERS:
        name = f"{table}_notify_{event.lower()}"
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} {action}")
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def _create_clients() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("redirect_uris", _strings(), nullable=False),
        sa.Column("post_logout_redirect_uris", _strings(), nullable=False),
        sa.Column("scopes", _strings(), nullable=True),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("refresh_grace", sa.Integer(), nullable=True),
        sa.Column("id_token_signed_response_alg", sa.String(), nullable=False),
        sa.Column("created_at", _timestamp(), server_default=sa.func.now(), nullable=False),
        sa.Column("deleted_at", _timestamp(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["users.id"], name=op.f("fk_clients_account_id_users")
        ),
    )
    op.create_index(
        "uq_clients_live",
        "clients",
        ["client_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_clients_account_id"), "clients", ["account_id"])


def _create_consents() -> None:
    op.create_table(
        "consents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("registration_id", sa.Uuid(), nullable=False),
        sa.Column("scopes", _strings(), nullable=False),
        sa.Column("implied", sa.Boolean(), nullable=False),
        sa.Column("hosts", _strings(), nullable=False),
        sa.Column("given_at", _timestamp(), nullable=False),
        sa.Column("last_used_at", _timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_consents_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["registration_id"], ["clients.id"], name=op.f("fk_consents_registration_id_clients")
        ),
        sa.UniqueConstraint(
            "user_id", "registration_id", name=op.f("uq_consents_user_id_registration_id")
        ),
    )
    op.create_index(op.f("ix_consents_registration_id"), "consents", ["registration_id"])


def _create_codes() -> None:
    op.create_table(
        "authorization_codes",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("ticket", sa.LargeBinary(), nullable=True),
        sa.Column("consent_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("registration_id", sa.Uuid(), nullable=False),
        sa.Column("browser_session_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("redirect_uri", sa.String(), nullable=True),
        sa.Column("challenge", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=True),
        sa.Column("signed_in_at", _timestamp(), nullable=False),
        sa.Column("methods", _strings(), nullable=False),
        sa.Column("scopes", _strings(), nullable=False),
        sa.Column("expires_at", _timestamp(), nullable=False),
        sa.Column("redeemed_at", _timestamp(), nullable=True),
        sa.Column("issued_session_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_authorization_codes")),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_authorization_codes_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["registration_id"],
            ["clients.id"],
            name=op.f("fk_authorization_codes_registration_id_clients"),
        ),
        sa.UniqueConstraint("ticket", name=op.f("uq_authorization_codes_ticket")),
    )
    op.create_index(op.f("ix_authorization_codes_user_id"), "authorization_codes", ["user_id"])
    op.create_index(
        op.f("ix_authorization_codes_registration_id"), "authorization_codes", ["registration_id"]
    )
    op.create_index(
        op.f("ix_authorization_codes_expires_at"), "authorization_codes", ["expires_at"]
    )


def downgrade() -> None:
    # Without the column, these would be sessions of no client, which have no ceiling.
    op.execute("DELETE FROM sessions WHERE consent_id IS NOT NULL")
    for table in ("authorization_codes", "browser_sessions", "consents", "clients"):
        op.drop_table(table)
    op.drop_column("sessions", "consent_id")
    op.execute("DELETE FROM signing_keys WHERE purpose <> 'access tokens'")
    op.drop_column("signing_keys", "purpose")
    op.execute("DROP FUNCTION scopegate_notify_client")


def _timestamp() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def _strings() -> postgresql.ARRAY[str]:
    return postgresql.ARRAY(sa.String())
