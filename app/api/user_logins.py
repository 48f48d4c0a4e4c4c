"""What users authenticate with, and where they are signed in, as administrators see and end it."""

import uuid

from fastapi import Response
from pydantic import BaseModel

from app.access import accounts
from app.access.authority import LastAdmin
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.routing import Router
from app.api.schemas import Page, PageSize
from app.api.security import CanReadUsers, CanWriteUsers
from app.identity.clients import MAX_SECRETS, SecretNotFound, TooManySecrets, secrets_of
from app.identity.sessions import SessionNotFound, live_sessions
from app.identity.users import user_of_id
from app.views import SecretAnswer, SessionAnswer, example

REASON = "ended by an admin"
"""What the audit log says of sessions that end here."""

router = Router(prefix="/users", tags=["users"], responses=PROTECTED | refusals(422))


SECRET = {
    "client_id": "invoices",
    "client_secret": "sgs_Zm9yIGV4YW1wbGUgYWxvbmUsIG5vIHNlY3JldA",
    "secret_id": "01890000-0000-7000-8000-000000000020",
}
"""In examples: what authenticates nothing."""


class NewSecretAnswer(BaseModel):
    """What a service account authenticates with. Shown once, and kept nowhere."""

    model_config = example(**SECRET)

    client_id: str
    client_secret: str
    secret_id: uuid.UUID


class SessionPage(Page[SessionAnswer]):
    """One page of sessions. The one that expires first comes first."""


class SecretPage(Page[SecretAnswer]):
    """A service account's live secrets."""


@router.post(
    "/{user_id}/secrets",
    summary="Create user secret",
    status_code=201,
    responses=refusals(404, 409, texts={409: str(TooManySecrets())}),
)
async def add_secret(
    user_id: uuid.UUID, work: CanWriteUsers, response: Response
) -> NewSecretAnswer:
    """A second live secret for a service account, to change over to. Shown this once."""
    response.headers.update(NO_STORE)
    user, secret = await accounts.make_secret(work, user_id)
    return NewSecretAnswer(client_id=user.username, client_secret=secret.value, secret_id=secret.id)


@router.get("/{user_id}/secrets", summary="List user secrets", responses=refusals(404))
async def list_secrets(user_id: uuid.UUID, _: CanReadUsers, db: ReadDep) -> SecretPage:
    """A service account's live secrets, oldest first: which there are, not what they are."""
    await user_of_id(db, user_id)
    found = [SecretAnswer.of(each) for each in await secrets_of(db, user_id)]
    return SecretPage.of(found, limit=MAX_SECRETS)


@router.delete(
    "/{user_id}/secrets/{secret_id}",
    summary="Revoke user secret",
    status_code=204,
    responses=refusals(404, 409, texts={404: str(SecretNotFound()), 409: str(LastAdmin())}),
)
async def remove_secret(user_id: uuid.UUID, secret_id: uuid.UUID, work: CanWriteUsers) -> None:
    """Revoke a secret: no request can authenticate with it any more."""
    await accounts.revoke_secret(work, user_id, secret_id)


@router.get("/{user_id}/sessions", summary="List user sessions", responses=refusals(404))
async def list_sessions(
    user_id: uuid.UUID,
    _: CanReadUsers,
    runtime: RuntimeDep,
    db: ReadDep,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> SessionPage:
    """The user's live sessions. The one that expires first comes first."""
    await user_of_id(db, user_id)
    found = await live_sessions(db, user_id, after=after, limit=limit + 1, now=runtime.now())
    return SessionPage.of([SessionAnswer.model_validate(each) for each in found], limit=limit)


@router.delete(
    "/{user_id}/sessions", summary="End user sessions", status_code=204, responses=refusals(404)
)
async def end_sessions(user_id: uuid.UUID, work: CanWriteUsers) -> None:
    """End all sessions of the user; repeating it changes nothing."""
    await accounts.end_sessions(work, user_id, reason=REASON)


@router.delete(
    "/{user_id}/sessions/{session_id}",
    summary="End user session",
    status_code=204,
    responses=refusals(404, texts={404: str(SessionNotFound())}),
)
async def end_session(user_id: uuid.UUID, session_id: uuid.UUID, work: CanWriteUsers) -> None:
    """End one session of the user; repeating it changes nothing."""
    await accounts.end_session_of(work, user_id, session_id, reason=REASON)
