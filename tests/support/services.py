"""Service accounts, as a command makes them."""

import uuid
from typing import NamedTuple

from app.access.grants import grant
from app.identity.account_writes import create_service
from app.identity.clients import NewSecret
from app.runtime import Runtime
from tests.support.factories import OPERATOR


class ServiceAccount(NamedTuple):
    """A service account, its first secret, and the form fields by which it authenticates."""

    id: uuid.UUID
    secret: NewSecret
    credentials: dict[str, str]


async def make_service(runtime: Runtime, name: str, *scopes: str) -> ServiceAccount:
    """A service account that holds these scopes."""
    async with runtime.work(OPERATOR) as work:
        user, secret = await create_service(work, username=name)
        for scope in scopes:
            await grant(work, user.id, scope)
    return ServiceAccount(user.id, secret, {"client_id": name, "client_secret": secret.value})
