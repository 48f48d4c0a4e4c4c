"""The one account that every peer knows, and the answer that every peer gives."""

import os
import uuid
from datetime import UTC, datetime

from pydantic import BaseModel

USER_ID = uuid.UUID("01890000-0000-7000-8000-000000000001")
USERNAME = "user-0"
EMAIL = "user-0@example.com"
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
SCOPES = ["read:items", "read:orders", "read:reports", "write:items", "write:orders"]

PASSWORD = "correct horse battery staple"
PASSWORD_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$SUkpRciZM4aw9p6zdo7xHg$tILFP+"
    "8ob7lvmXhAqd8jqbmZ8uJDyppGDvywofQvdVw"
)
"""Of PASSWORD, by argon2id: made once, since a million users would take hours to hash."""

CLIENT_ID = "bench"
SECRET = "a-secret-for-the-benchmark-only-0123456789"
POOL_SIZE = 20
"""Database connections: more than the load has, so that none is waited for or opened under load."""
TOKEN_SECONDS = int(os.environ.get("BENCH_TOKEN_SECONDS", "3600"))


class Me(BaseModel):
    """The small model that every protected route answers."""

    id: uuid.UUID
    username: str
    kind: str
    created_at: datetime
    scopes: list[str]
    granted: list[str]
    granted_until: dict[str, datetime] = {}
