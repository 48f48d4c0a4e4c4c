"""where a session was refreshed last: the network, the user agent, and the generation made there"""

import sqlalchemy as sa
from alembic import op

from app.db.table_locks import lock_tables

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(lock_tables(alone=["sessions"]))
    # The release before refreshes without setting these. The generation tells: where it is not the
    # row's own, the other two are of an earlier refresh and are not compared.
    op.add_column("sessions", sa.Column("rotated_generation", sa.Integer(), nullable=True))
    op.add_column("sessions", sa.Column("rotated_network", sa.String(), nullable=True))
    op.add_column("sessions", sa.Column("rotated_user_agent", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "rotated_user_agent")
    op.drop_column("sessions", "rotated_network")
    op.drop_column("sessions", "rotated_generation")
