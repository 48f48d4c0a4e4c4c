"""Erase accounts: one's own by the password, and others' by authority over them."""

import uuid

from sqlalchemy import select

from app.access.authority import Caller, OwnAccount, keep_an_admin, managed_user
from app.db.work import Actor, Work
from app.errors import Conflict, InvalidToken
from app.identity.account_writes import erase_user
from app.identity.erased_names import lock_names
from app.identity.locks import hold_users
from app.identity.login import Guard, WrongPassword, confirm_password
from app.identity.models import Session, User
from app.identity.registrations import has_live_client
from app.identity.sessions import is_live


class BelongsToClient(Conflict):
    """The account has the secrets of a registered client."""

    text = "This account belongs to a client: delete the client first."


async def erase(work: Work[Caller], user_id: uuid.UUID) -> None:
    """Erase another account and all that is theirs. Nothing can bring it back.

    Raises UserNotFound, BeyondAuthority, LastAdmin, OwnAccount for the caller's own,
    BelongsToClient for that of a registered client, or what `confirm_caller` raises.
    """
    user = await managed_user(work, user_id)
    await _erase(work, user, own=user_id == work.actor.user_id)


async def erase_oneself(
    guard: Guard, caller: Caller, *, session_id: uuid.UUID, password: str
) -> None:
    """Erase the caller's own account, if this is their current password.

    Raises NotForThirdParties, what `confirm_password` raises, LastAdmin, or InvalidToken when this
    session has ended. A refusal is audited.
    """
    caller.require_own_hand()
    user_id = caller.user_id
    assert user_id is not None
    async with (
        confirm_password(
            guard, user_id, session_id=session_id, password=password, actor=caller
        ) as confirmed,
        guard.database.work(caller) as work,
    ):
        await hold_users(work.db, user_id)
        live = select(is_live(work.now)).where(Session.id == session_id)
        user = await work.db.get(User, user_id)
        if user is None or not await work.db.scalar(live):
            raise InvalidToken
        if user.password_hash != confirmed.password_hash:
            # It was changed meanwhile, so this one is not the current one any more.
            raise WrongPassword(reason="changed meanwhile")
        await _erase(work, user)


async def _erase(work: Work[Actor], user: User, *, own: bool = False) -> None:
    """Erase an account that is held, unless something forbids it."""
    # In this order, as app/db/locks.py says.
    await lock_names(work)
    await keep_an_admin(work, user.id)
    if own:
        raise OwnAccount
    if await has_live_client(work.db, user.id):
        raise BelongsToClient
    await erase_user(work, user)
