"""Users, as administrators see and change them. What nobody may do to whom: access/authority."""

import uuid
from typing import Annotated

from fastapi import Query, Response

from app.access.accounts import (
    create_user,
    disable_account,
    replace_password,
    revoke_account_secret,
)
from app.access.authority import confirm_caller, managed_user
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import NO_STORE
from app.api.schemas import (
    Limit,
    NewPassword,
    NewUser,
    NewUserAnswer,
    Page,
    SecretAnswer,
    SessionAnswer,
    Text,
    UserAnswer,
    UserChange,
)
from app.api.security import CanReadUsers, CanWriteUsers, Router
from app.identity.clients import create_service, make_secret
from app.identity.sessions import end_sessions_of, live_sessions
from app.identity.users import enable_user, list_users, rename_user, user_of_id

router = Router(prefix="/users", tags=["users"], responses=PROTECTED | refusals(422))


@router.get("")
async def search_users(
    _: CanReadUsers,
    session: SessionDep,
    q: Annotated[Text | None, Query(max_length=128, description="A part of the name.")] = None,
    limit: Limit = 20,
    after: uuid.UUID | None = None,
) -> Page[UserAnswer]:
    """Users, oldest first."""
    found = await list_users(session, name=q, after=after, limit=limit + 1)
    return Page.of([UserAnswer.of(user) for user in found], limit=limit)


@router.post("", status_code=201, response_model_exclude_none=True, responses=refusals(409, 413))
async def make_user(
    new: NewUser,
    caller: CanWriteUsers,
    runtime: RuntimeDep,
    session: SessionDep,
    response: Response,
) -> NewUserAnswer:
    """A new user, who holds nothing yet. A service account's secret is shown this once."""
    response.headers.update(NO_STORE)
    if new.password is not None:
        user = await create_user(
            session,
            runtime.hasher,
            username=new.username,
            password=new.password,
            by=caller,
            clock=runtime.now,
        )
        return NewUserAnswer.of(user)
    await confirm_caller(session, by=caller, now=runtime.now())
    user, secret = await create_service(session, username=new.username, by=caller)
    shown = {"client_id": user.username, "client_secret": secret.value, "secret_id": secret.id}
    return NewUserAnswer.of(user).model_copy(update=shown)


@router.get("/{user_id}", responses=refusals(404))
async def get_user(user_id: uuid.UUID, _: CanReadUsers, session: SessionDep) -> UserAnswer:
    """One user."""
    return UserAnswer.of(await user_of_id(session, user_id))


@router.patch("/{user_id}", responses=refusals(404, 409, 413))
async def change_user(
    user_id: uuid.UUID,
    change: UserChange,
    caller: CanWriteUsers,
    runtime: RuntimeDep,
    session: SessionDep,
) -> UserAnswer:
    """The user, renamed, disabled or enabled. Disabling ends all their sessions."""
    now = runtime.now()
    for_good = change.username is not None or change.disabled is False
    user = await managed_user(session, user_id, by=caller, now=now, for_good=for_good)
    if change.username is not None:
        await rename_user(session, user, username=change.username, by=caller)
    if change.disabled is True:
        await disable_account(session, user_id, by=caller, now=now)
    if change.disabled is False:
        await enable_user(session, user_id, by=caller)
    await session.refresh(user)
    return UserAnswer.of(user)


@router.post("/{user_id}/password", status_code=204, responses=refusals(404, 413))
async def set_password(
    user_id: uuid.UUID, new: NewPassword, caller: CanWriteUsers, runtime: RuntimeDep
) -> None:
    """Another password for a person, all of whose sessions end."""
    await replace_password(
        runtime.sessions,
        runtime.hasher,
        user_id=user_id,
        password=new.password,
        by=caller,
        clock=runtime.now,
    )


@router.post("/{user_id}/secrets", status_code=201, responses=refusals(404, 409))
async def add_secret(
    user_id: uuid.UUID,
    caller: CanWriteUsers,
    runtime: RuntimeDep,
    session: SessionDep,
    response: Response,
) -> SecretAnswer:
    """A second live secret for a service account, to change over to. Shown this once."""
    response.headers.update(NO_STORE)
    now = runtime.now()
    user = await managed_user(session, user_id, by=caller, now=now, for_good=True)
    secret = await make_secret(session, user_id=user_id, by=caller)
    return SecretAnswer(client_id=user.username, client_secret=secret.value, secret_id=secret.id)


@router.delete("/{user_id}/secrets/{secret_id}", status_code=204, responses=refusals(404, 409))
async def remove_secret(
    user_id: uuid.UUID,
    secret_id: uuid.UUID,
    caller: CanWriteUsers,
    runtime: RuntimeDep,
    session: SessionDep,
) -> None:
    """Revoke a secret: it authenticates nobody from now on."""
    now = runtime.now()
    await revoke_account_secret(session, user_id, secret_id, by=caller, now=now)


@router.get("/{user_id}/sessions", responses=refusals(404))
async def list_sessions(
    user_id: uuid.UUID,
    _: CanReadUsers,
    runtime: RuntimeDep,
    session: SessionDep,
    limit: Limit = 20,
    after: uuid.UUID | None = None,
) -> Page[SessionAnswer]:
    """The user's live sessions, soonest to expire first."""
    await user_of_id(session, user_id)
    found = await live_sessions(session, user_id, after=after, limit=limit + 1, now=runtime.now())
    return Page.of([SessionAnswer.model_validate(each) for each in found], limit=limit)


@router.delete("/{user_id}/sessions", status_code=204, responses=refusals(404))
async def end_sessions(
    user_id: uuid.UUID, caller: CanWriteUsers, runtime: RuntimeDep, session: SessionDep
) -> None:
    """End all sessions of the user; repeating it changes nothing."""
    now = runtime.now()
    await managed_user(session, user_id, by=caller, now=now)
    await end_sessions_of(session, user_id, reason="ended by an admin", by=caller, now=now)
