"""Users, as administrators see and change them. The rules are in access/authority.py."""

import uuid
from datetime import datetime
from typing import Annotated, Self

from fastapi import Query, Response
from pydantic import BaseModel, Field, Strict, model_validator

from app.access import accounts
from app.access.authority import LastAdmin
from app.access.erasure import erase
from app.access.holdings import holds
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.routing import Router
from app.api.schemas import Page, PageSize, ScopeName, Text
from app.api.security import CallerWritingUsers, CanReadUsers, CanWriteUsers
from app.identity.clients import MAX_SECRETS, SecretNotFound, TooManySecrets, secrets_of
from app.identity.names import MAX_USERNAME
from app.identity.sessions import SessionNotFound, live_sessions
from app.identity.users import MOST_COUNTED, Kind, UserFilter, count_users, list_users, user_of_id
from app.views import ALICE, SecretAnswer, SessionAnswer, UserAnswer, example

REASON = "ended by an admin"
"""What the audit log says of sessions that end here."""

router = Router(prefix="/users", tags=["users"], responses=PROTECTED | refusals(422))


SECRET = {
    "client_id": "invoices",
    "client_secret": "sgs_Zm9yIGV4YW1wbGUgYWxvbmUsIG5vIHNlY3JldA",
    "secret_id": "01890000-0000-7000-8000-000000000020",
}
"""In examples: what authenticates nothing."""


class NewUser(BaseModel):
    """A user to create: a person with a password, or a service account, which gets a secret."""

    model_config = example(username="alice", password="correct horse battery staple")  # noqa: S106

    username: str
    kind: Kind = "person"
    password: str | None = None

    @model_validator(mode="after")
    def _only_people_have_passwords(self) -> Self:
        if (self.kind == "person") != (self.password is not None):
            raise ValueError("A person has a password, and a service account has none.")
        return self


class NewSecretAnswer(BaseModel):
    """What a service account authenticates with. Shown once, and kept nowhere."""

    model_config = example(**SECRET)

    client_id: str
    client_secret: str
    secret_id: uuid.UUID


class NewUserAnswer(UserAnswer):
    """The user that was made."""

    model_config = example(
        id=ALICE,
        username="invoices",
        kind="service",
        disabled=False,
        created_at="2027-01-04T08:00:00Z",
        **SECRET,
    )

    client_id: str | None = Field(None, description="A service account's: its name, for ever.")
    client_secret: str | None = Field(None, description="A service account's, shown once.")
    secret_id: uuid.UUID | None = Field(None, description="What to revoke the secret by.")


class UserQuery(BaseModel):
    """Which users are wanted: those to whom all of this applies."""

    q: Text | None = Field(
        None, max_length=MAX_USERNAME, description="A part of the name.", examples=["ali"]
    )
    kind: Kind | None = None
    disabled: bool | None = None
    scope: ScopeName | None = Field(
        None,
        examples=["read:items"],
        description="A scope that is granted to them. `admin` does not count for others here.",
    )
    limit: PageSize = 20
    after: uuid.UUID | None = None

    def filter(self, *, now: datetime) -> UserFilter:
        """Return what narrows the list so; a grant counts if it does now."""
        among = None if self.scope is None else holds(self.scope, now=now)
        return UserFilter(self.q, self.kind, self.disabled, among)


class UserPage(Page[UserAnswer]):
    """One page of users, newest first."""

    count: int | None = Field(
        None,
        description="On the first page: how many match. "
        f"{MOST_COUNTED + 1} stands for more than {MOST_COUNTED}.",
    )


class SessionPage(Page[SessionAnswer]):
    """One page of sessions. The one that expires first comes first."""


class SecretPage(Page[SecretAnswer]):
    """A service account's live secrets."""


class UserChange(BaseModel):
    """What to change of a user; what is absent stays."""

    model_config = example(username="alice.smith")

    username: str | None = None
    disabled: Annotated[bool, Strict()] | None = None


class NewPassword(BaseModel):
    """The password as it shall be."""

    model_config = example(password="correct horse battery staple")  # noqa: S106

    password: str


@router.get("", summary="List users")
async def search_users(
    _: CanReadUsers,
    db: ReadDep,
    runtime: RuntimeDep,
    which: Annotated[UserQuery, Query()],
) -> UserPage:
    """Users, newest first."""
    wanted = which.filter(now=runtime.now())
    found = await list_users(db, wanted, after=which.after, limit=which.limit + 1)
    page = UserPage.of([UserAnswer.of(user) for user in found], limit=which.limit)
    if which.after is None:
        page.count = await count_users(db, wanted)
    return page


@router.post(
    "",
    summary="Create user",
    status_code=201,
    response_model_exclude_none=True,
    responses=refusals(409, 413),
)
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


@router.get("/{user_id}", summary="Get user", responses=refusals(404))
async def get_user(user_id: uuid.UUID, _: CanReadUsers, db: ReadDep) -> UserAnswer:
    """One user."""
    return UserAnswer.of(await user_of_id(db, user_id))


@router.patch("/{user_id}", summary="Change user", responses=refusals(404, 409, 413))
async def change_user(user_id: uuid.UUID, change: UserChange, work: CanWriteUsers) -> UserAnswer:
    """The user, renamed, disabled or enabled. Disabling ends all their sessions."""
    user = await accounts.change(work, user_id, username=change.username, disabled=change.disabled)
    return UserAnswer.of(user)


@router.delete("/{user_id}", summary="Delete user", status_code=204, responses=refusals(404, 409))
async def erase_user(user_id: uuid.UUID, work: CanWriteUsers) -> None:
    """Delete the user and all that is theirs. Their name stays taken for 30 days."""
    await erase(work, user_id)


@router.post(
    "/{user_id}/password",
    summary="Set user password",
    status_code=204,
    responses=refusals(404, 413),
)
async def set_password(
    user_id: uuid.UUID, new: NewPassword, caller: CallerWritingUsers, runtime: RuntimeDep
) -> None:
    """Another password for a person, all of whose sessions end."""
    await accounts.replace_password(
        runtime.database, runtime.hasher, user_id, password=new.password, caller=caller
    )


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
