"""e-mail addresses, one-time links, sign-ups"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# Whatever writes it, also an operator's SQL: another password or address makes links void, and so
# does disabling the user.
FUNCTION = """
CREATE FUNCTION scopegate_void_links() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.link_epoch := OLD.link_epoch + 1;
    RETURN NEW;
END $$
"""
VOID_LINKS = """
CREATE TRIGGER users_void_links BEFORE UPDATE ON users FOR EACH ROW
WHEN (
    (OLD.password_hash, OLD.email_key, OLD.disabled_at)
    IS DISTINCT FROM (NEW.password_hash, NEW.email_key, NEW.disabled_at)
    AND NEW.link_epoch = OLD.link_epoch
)
EXECUTE FUNCTION scopegate_void_links()
"""
BEFORE = "id, username, kind, created_at, disabled_at, session_epoch"
# What is remembered of a user has the address in it.
NOW = f"{BEFORE}, email, email_verified_at"


def upgrade() -> None:
    op.execute(lock_tables(alone=["users"]))
    # NULL for all who are there: to fill it in is the operator's or the person's to do.
    op.add_column("users", sa.Column("email", sa.String(), nullable=True))
    op.add_column("users", sa.Column("email_key", sa.String(), nullable=True))
    op.add_column("users", sa.Column("email_verified_at", _timestamp(), nullable=True))
    op.add_column(
        "users",
        sa.Column("email_by_other", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "users", sa.Column("link_epoch", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.create_index(
        "ix_users_email_key",
        "users",
        ["email_key"],
        postgresql_where=sa.text("email_key IS NOT NULL"),
    )
    op.create_index(
        "uq_users_email_verified",
        "users",
        ["email_key"],
        unique=True,
        postgresql_where=sa.text("email_verified_at IS NOT NULL"),
    )
    _create_links()
    op.create_table(
        "sign_ups",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("expires_at", _timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_sign_ups")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_sign_ups_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index(op.f("ix_sign_ups_expires_at"), "sign_ups", ["expires_at"])
    op.execute(FUNCTION)
    op.execute(VOID_LINKS)
    op.execute("ALTER TABLE users ENABLE ALWAYS TRIGGER users_void_links")
    _notify_of(NOW)


def _create_links() -> None:
    op.create_table(
        "account_links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("made_by", sa.Uuid(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", _timestamp(), server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", _timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_links")),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_account_links_user_id_users"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["made_by"],
            ["users.id"],
            name=op.f("fk_account_links_made_by_users"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("digest", name=op.f("uq_account_links_digest")),
        sa.UniqueConstraint("user_id", "purpose", name=op.f("uq_account_links_user_id_purpose")),
    )
    op.create_index(op.f("ix_account_links_made_by"), "account_links", ["made_by"])
    op.create_index(op.f("ix_account_links_expires_at"), "account_links", ["expires_at"])


def _notify_of(columns: str) -> None:
    """Notify of a user's row when one of these columns changes."""
    old, new = (
        ", ".join(f"{row}.{each}" for each in columns.split(", ")) for row in ("OLD", "NEW")
    )
    op.execute("DROP TRIGGER users_notify_update ON users")
    op.execute(
        "CREATE TRIGGER users_notify_update AFTER UPDATE ON users FOR EACH ROW "
        f"WHEN (({old}) IS DISTINCT FROM ({new})) "
        "EXECUTE FUNCTION scopegate_notify_row('user', 'id')"
    )
    op.execute("ALTER TABLE users ENABLE ALWAYS TRIGGER users_notify_update")


def downgrade() -> None:
    _notify_of(BEFORE)
    op.execute("DROP TRIGGER users_void_links ON users")
    op.execute("DROP FUNCTION scopegate_void_links")
    # Never confirmed: without these tables they would be people without a password, for ever.
    op.execute("DELETE FROM users USING sign_ups WHERE sign_ups.user_id = users.id")
    for table in ("sign_ups", "account_links"):
        op.drop_table(table)
    for column in ("email", "email_key", "email_verified_at", "email_by_other", "link_epoch"):
        op.drop_column("users", column)


def _timestamp() -> sa.DateTime:
    return sa.DateTime(timezone=True)
