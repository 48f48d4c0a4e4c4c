"""What every table has in common."""

import re
import uuid
from datetime import datetime

from sqlalchemy import DateTime, MetaData, Uuid, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from uuid_utils.compat import uuid7


class Base(DeclarativeBase):
    """The declarative base. Constraints get names by rule, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        datetime: DateTime(timezone=True),
        uuid.UUID: Uuid(),
    }


class Identified:
    """A row with a UUIDv7: made here, in the order of time, so that pages by key are stable."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)


class Created:
    """A row that knows when it was made, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def is_storable(text: str) -> bool:
    """Whether Postgres can keep this text: it has no NUL, and no surrogate that stands alone."""
    return re.search("[\0\ud800-\udfff]", text) is None
