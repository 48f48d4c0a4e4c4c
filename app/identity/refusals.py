"""Requests that are refused although a password or a client secret was right."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from app.audit.limits import EntryLimit
from app.audit.log import record
from app.db.engine import DATABASE_GONE
from app.db.work import Actor, Database
from app.errors import ScopegateError, audited
from app.identity.networks import network_of


@asynccontextmanager
async def audit_refusal(
    database: Database,
    user_id: uuid.UUID,
    *,
    right: Literal["password", "client secret"],
    actor: Actor,
    limit: EntryLimit | None = None,
) -> AsyncIterator[None]:
    """Audit the error that ends the block, as `login.failed` of an account that has authenticated.

    The password or secret was right, and every refusal except the one for a wrong one reveals that.
    So everything after the check belongs in the block. The entry has its own transaction, because
    the request's is rolled back. If the entry can't be written, the database's error replaces the
    refusal. Two kinds of errors pass without an entry: those already audited, and those of
    DATABASE_GONE, which wrong passwords get too. With a `limit`, entries beyond it are only
    counted, by account and network. Raises what the block raises.
    """
    try:
        yield
    except DATABASE_GONE:
        raise
    except Exception as error:
        if getattr(error, "audited", False):
            raise
        place = (user_id, network_of(actor.origin.address))
        left_out = limit.admit(place, now=database.now()) if limit else 0
        if left_out is not None:
            async with database.work(actor) as work:
                reason = f"right {right}, but: {_reason(error)}"
                detail = {"reason": reason, **({"left_out": left_out} if left_out else {})}
                record(work, "login.failed", subject=user_id, **detail)
        if isinstance(error, ScopegateError):
            audited(error)
        raise


def _reason(error: Exception) -> str:
    """Return why, in words for the audit log. Other errors' texts may repeat what was sent."""
    if isinstance(error, ScopegateError):
        return error.reason or str(error)
    return type(error).__name__
