"""The keys that tokens are signed with."""

from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, Created


class SigningKey(Created, Base):
    """One key of one algorithm. The private part is readable only with the service's secret."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    algorithm: Mapped[str]
    encrypted_private_key: Mapped[str]
