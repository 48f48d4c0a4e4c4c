"""What the service knows of the database itself."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class LostTimeline(Base):
    """A timeline of a cluster that this database has gone back from.

    Each process that has seen the newer timeline writes it here, so that processes which start
    later know of it too. Until `recovered_at` is set, none of them serves from this database.
    """

    __tablename__ = "lost_timelines"

    cluster: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Postgres' system identifier."""
    timeline: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime]
    """When a process last saw a server on that timeline, by that server's clock."""
    recovered_at: Mapped[datetime | None]
