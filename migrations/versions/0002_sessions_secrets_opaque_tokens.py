"""sessions, client secrets, opaque tokens, the life of a signing key"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.db.table_locks import lock_tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(lock_tables(alone=["signing_keys"], against_writes=["users"]))
    op.create_table(
        "client_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _timestamp(), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_client_secrets")),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name=op.f("fk_client_secrets_user_id_users"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_client_secrets_user_id"), "client_secrets", ["user_id"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.String()), nullable=False),
        sa.Column("created_at", _timestamp(), server_default=sa.func.now(), nullable=False),
        sa.Column("last_used_at", _timestamp(), server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", _timestamp(), nullable=False),
        sa.Column("idle_expires_at", _timestamp(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("user_agent", sa.String(), nullable=True),
        sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rotated_at", _timestamp(), nullable=True),
        sa.Column("refresh_key", sa.LargeBinary(), nullable=False),
        sa.Column("ended_at", _timestamp(), nullable=True),
        sa.Column("end_reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_sessions_user_id_users"), ondelete="CASCADE"
        ),
    )
    op.create_index(op.f("ix_sessions_user_id_id"), "sessions", ["user_id", "id"])
    op.create_index(op.f("ix_sessions_idle_expires_at"), "sessions", ["idle_expires_at"])
    op.create_index(op.f("ix_sessions_ended_at"), "sessions", ["ended_at"])
    op.create_table(
        "opaque_tokens",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.String()), nullable=False),
        sa.Column("issued_at", _timestamp(), nullable=False),
        sa.Column("expires_at", _timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_opaque_tokens")),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.id"],
            name=op.f("fk_opaque_tokens_session_id_sessions"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_opaque_tokens_session_id"), "opaque_tokens", ["session_id"])
    op.create_index(op.f("ix_opaque_tokens_expires_at"), "opaque_tokens", ["expires_at"])
    op.add_column(
        "signing_keys",
        sa.Column("signs_from", _timestamp(), server_default=sa.func.now(), nullable=False),
    )
    op.add_column("signing_keys", sa.Column("retires_at", _timestamp(), nullable=True))


def downgrade() -> None:
    # Without the column, a key that has leaked would verify again.
    op.execute("DELETE FROM signing_keys WHERE retires_at IS NOT NULL")
    op.drop_column("signing_keys", "retires_at")
    op.drop_column("signing_keys", "signs_from")
    for table in ("opaque_tokens", "sessions", "client_secrets"):
        op.drop_table(table)


def _timestamp() -> sa.DateTime:
    return sa.DateTime(timezone=True)
