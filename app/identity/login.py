"""Login: from a name and a password to a user."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.errors import InvalidGrant
from app.identity.models import User
from app.identity.passwords import PasswordHasher
from app.identity.users import find_user


class LoginRefused(InvalidGrant):
    """One answer for every reason: a caller must not learn which names exist."""

    def __init__(self) -> None:
        super().__init__("The username or the password is wrong.")


async def authenticate(
    sessions: async_sessionmaker[AsyncSession],
    hasher: PasswordHasher,
    *,
    username: str,
    password: str,
) -> User:
    """The person with this name and password; a hash of yesterday's kind is renewed on the way.

    Takes sessions, not a session, because no connection may be held while the password is hashed.
    Raises LoginRefused, after the same work, for an unknown name, a wrong password, a disabled
    user and a service account alike; TooManyLogins when the hashing queue is full.
    """
    async with sessions() as session:
        user = await find_user(session, username)
    correct, renewed = await hasher.verify(password, user.password_hash if user else None)
    if user is None or not correct or user.disabled_at is not None or user.kind != "person":
        raise LoginRefused
    if renewed:
        async with sessions.begin() as session:
            await session.execute(
                update(User)
                # Unless the password was changed meanwhile.
                .where(User.id == user.id, User.password_hash == user.password_hash)
                .values(password_hash=renewed)
            )
    return user
