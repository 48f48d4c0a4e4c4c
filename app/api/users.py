"""Users, as administrators see and change them. The rules are in access/authority.py."""

import uuid
from typing import Annotated, Self

from fastapi import Query, Response
from pydantic import BaseModel, Field, model_validator

from app.access import accounts
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.schemas import Page, PageSize, Text
from app.api.security import CallerWritingUsers, CanReadUsers, CanWriteUsers, Router
from app.identity.names import MAX_USERNAME
from app.identity.sessions import live_sessions
from app.identity.users import Kind, list_users, user_of_id
from app.views import SessionAnswer, UserAnswer

router = Router(prefix="/users", tags=["users"], responses=PROTECTED | refusals(422))


class NewUser(BaseModel):
    """A user to create: a person with a password, or a service account, which gets a secret."""

    username: str
    kind: Kind = "person"
    password: str | None = None

    @model_validator(mode="after")
    def _only_people_have_passwords(self) -> Self:
        if (self.kind == "person") != (self.password is not None):
            raise ValueError("A person has a password, and a service account has none.")
        return self


class SecretAnswer(BaseModel):
    """What a service account authenticates with. Shown once, and kept nowhere."""

    client_id: str
    client_secret: str
    secret_id: uuid.UUID


class NewUserAnswer(UserAnswer):
    """The user that was made."""

    client_id: str | None = Field(None, description="A service account's: its name, for ever.")
    client_secret: str | None = Field(None, description="A service account's, shown once.")
    secret_id: uuid.UUID | None = Field(None, description="What to revoke the secret by.")


class UserChange(BaseModel):
    """What to change of a user; what is absent stays."""

    username: str | None = None
    disabled: bool | None = None


class NewPassword(BaseModel):
    """The password as it shall be."""

    password: str


@router.get("")
async def search_users(
    _: CanReadUsers,
    db: ReadDep,
    q: Annotated[
        Text | None, Query(max_length=MAX_USERNAME, description="A part of the name.")
    ] = None,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> Page[UserAnswer]:
    """Users, oldest first."""
    found = await list_users(db, name=q, after=after, limit=limit + 1)
    return Page.of([UserAnswer.of(user) for user in found], limit=limit)


@router.post("", status_code=201, response_model_exclude_none=True, responses=refusals(409, 413))
async def make_user(
    new: NewUser, caller: CallerWritingUsers, runtime: RuntimeDep, response: Response
) -> NewUserAnswer:
    """A new user, who holds nothing yet. A service account's secret is shown this once."""
    response.headers.update(NO_STORE)
    if new.password is not None:
        person = await accounts.prepare_person(
            runtime.hasher, username=new.username, password=new.password, caller=caller
        )
        async with runtime.work(caller) as work:
            return NewUserAnswer.of(await accounts.create_person(work, person))
    async with runtime.work(caller) as work:
        user, secret = await accounts.create_service(work, username=new.username)
    shown = {"client_id": user.username, "client_secret": secret.value, "secret_id": secret.id}
    return NewUserAnswer.of(user).model_copy(update=shown)


@router.get("/{user_id}", responses=refusals(404))
async def get_user(user_id: uuid.UUID, _: CanReadUsers, db: ReadDep) -> UserAnswer:
    """One user."""
    return UserAnswer.of(await user_of_id(db, user_id))


@router.patch("/{user_id}", responses=refusals(404, 409, 413))
async def change_user(user_id: uuid.UUID, change: UserChange, work: CanWriteUsers) -> UserAnswer:
    """The user, renamed, disabled or enabled. Disabling ends all their sessions."""
    user = await accounts.change(work, user_id, username=change.username, disabled=change.disabled)
    return UserAnswer.of(user)


@router.post("/{user_id}/password", status_code=204, responses=refusals(404, 413))
async def set_password(
    user_id: uuid.UUID, new: NewPassword, caller: CallerWritingUsers, runtime: RuntimeDep
) -> None:
    """Another password for a person, all of whose sessions end."""
    await accounts.replace_password(
        runtime.database, runtime.hasher, user_id, password=new.password, caller=caller
    )


@router.post("/{user_id}/secrets", status_code=201, responses=refusals(404, 409))
async def add_secret(user_id: uuid.UUID, work: CanWriteUsers, response: Response) -> SecretAnswer:
    """A second live secret for a service account, to change over to. Shown this once."""
    response.headers.update(NO_STORE)
    user, secret = await accounts.make_secret(work, user_id)
    return SecretAnswer(client_id=user.username, client_secret=secret.value, secret_id=secret.id)


@router.delete("/{user_id}/secrets/{secret_id}", status_code=204, responses=refusals(404, 409))
async def remove_secret(user_id: uuid.UUID, secret_id: uuid.UUID, work: CanWriteUsers) -> None:
    """Revoke a secret: no request can authenticate with it any more."""
    await accounts.revoke_secret(work, user_id, secret_id)


@router.get("/{user_id}/sessions", responses=refusals(404))
async def list_sessions(
    user_id: uuid.UUID,
    _: CanReadUsers,
    runtime: RuntimeDep,
    db: ReadDep,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> Page[SessionAnswer]:
    """The user's live sessions, soonest to expire first."""
    await user_of_id(db, user_id)
    found = await live_sessions(db, user_id, after=after, limit=limit + 1, now=runtime.now())
    return Page.of([SessionAnswer.model_validate(each) for each in found], limit=limit)


@router.delete("/{user_id}/sessions", status_code=204, responses=refusals(404))
async def end_sessions(user_id: uuid.UUID, work: CanWriteUsers) -> None:
    """End all sessions of the user; repeating it changes nothing."""
    await accounts.end_sessions(work, user_id, reason="ended by an admin")
