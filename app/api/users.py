"""Users, as administrators see and change them. The rules are in access/authority.py."""

import uuid
from datetime import datetime
from typing import Annotated, Self

from fastapi import Query, Response
from pydantic import BaseModel, Field, Strict, model_validator

from app.access import accounts
from app.access.erasure import erase
from app.access.holdings import holds
from app.access.password_links import Invitation, invite
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.routing import Router
from app.api.schemas import Page, PageSize, ScopeName, Text
from app.api.security import CallerWritingUsers, CanReadUsers, CanWriteUsers
from app.api.user_logins import SECRET
from app.identity.names import MAX_USERNAME
from app.identity.users import MOST_COUNTED, Kind, UserFilter, count_users, list_users, user_of_id
from app.views import ALICE, UserAnswer, example

router = Router(prefix="/users", tags=["users"], responses=PROTECTED | refusals(422))


INVITATION = {
    "link": "http://127.0.0.1:8000/accept-invitation?token=sgl_Zm9yIGV4YW1wbGUgYWxvbmU",
    "expires_at": "2027-01-11T08:00:00Z",
}


class NewUser(BaseModel):
    """A user to create: a person with a password, or a service account, which gets a secret."""

    model_config = example(username="alice", password="correct horse battery staple")  # noqa: S106

    username: str
    kind: Kind = "person"
    password: str | None = Field(
        None, description="A person's. Without it, they are invited to set one."
    )
    email: str | None = Field(None, description="A person's.")

    @model_validator(mode="after")
    def _only_people_have_passwords(self) -> Self:
        given = self.password is not None or self.email is not None
        if self.kind == "service" and given:
            raise ValueError("A service account has no password and no address.")
        return self


class InvitationAnswer(BaseModel):
    """A link by which a person sets their password. Shown once."""

    model_config = example(**INVITATION)

    link: str
    expires_at: datetime

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        """The answer that shows this invitation."""
        return cls(link=invitation.url, expires_at=invitation.expires_at)


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
    invitation: InvitationAnswer | None = Field(
        None, description="An invited person's, to hand over if no mail reaches them. Shown once."
    )


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


class UserChange(BaseModel):
    """What to change of a user; what is absent stays."""

    model_config = example(username="alice.smith")

    username: str | None = None
    disabled: Annotated[bool, Strict()] | None = None
    email: str | None = Field(
        None, description="A person's, to be confirmed by a link that is mailed there; null: none."
    )


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
    if new.kind == "person":
        person = await accounts.prepare_person(
            runtime.hasher,
            username=new.username,
            password=new.password,
            email=new.email,
            caller=caller,
        )
        async with runtime.work(caller) as work:
            made, invitation = await accounts.welcome_person(work, runtime.letters, person)
        return NewUserAnswer.of(made).model_copy(
            update={"invitation": InvitationAnswer.of(invitation) if invitation else None}
        )
    async with runtime.work(caller) as work:
        user, secret = await accounts.create_service(work, username=new.username)
    shown = {"client_id": user.username, "client_secret": secret.value, "secret_id": secret.id}
    return NewUserAnswer.of(user).model_copy(update=shown)


@router.get("/{user_id}", summary="Get user", responses=refusals(404))
async def get_user(user_id: uuid.UUID, _: CanReadUsers, db: ReadDep) -> UserAnswer:
    """One user."""
    return UserAnswer.of(await user_of_id(db, user_id))


@router.patch("/{user_id}", summary="Change user", responses=refusals(404, 409, 413))
async def change_user(
    user_id: uuid.UUID, change: UserChange, work: CanWriteUsers, runtime: RuntimeDep
) -> UserAnswer:
    """The user, renamed, disabled, enabled, or with another address.

    Disabling ends all their sessions.
    """
    user = await accounts.change(work, user_id, username=change.username, disabled=change.disabled)
    if "email" in change.model_fields_set:
        user = await accounts.change_address(work, runtime.letters, user_id, change.email)
    return UserAnswer.of(user)


@router.delete("/{user_id}", summary="Delete user", status_code=204, responses=refusals(404, 409))
async def erase_user(user_id: uuid.UUID, work: CanWriteUsers) -> None:
    """Delete the user and all that is theirs. Their name stays taken for 30 days."""
    await erase(work, user_id)


@router.post(
    "/{user_id}/invitation",
    summary="Invite user",
    status_code=201,
    responses=refusals(404),
)
async def invite_user(
    user_id: uuid.UUID, work: CanWriteUsers, runtime: RuntimeDep, response: Response
) -> InvitationAnswer:
    """A link by which the person sets their password. It is mailed too, if they have an address."""
    response.headers.update(NO_STORE)
    return InvitationAnswer.of(await invite(work, runtime.letters, user_id))


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
