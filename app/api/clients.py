"""Clients: applications that sign people in. The rules are in access/client_registry.py."""

from typing import Annotated, Literal, Self, cast

from fastapi import Response
from pydantic import BaseModel, Field, Strict

from app.access.client_registry import (
    LEAST_GRACE,
    MOST_GRACE,
    ClientChanges,
    NewClient,
    ShippedClient,
    change_client,
    delete_client,
    register_client,
)
from app.access.grants import MAX_REMARK
from app.access.redirects import MAX_REDIRECT_URI, MAX_REDIRECT_URIS
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ReadDep
from app.api.errors import NO_STORE
from app.api.routing import Router
from app.api.schemas import ClientId, Page, PageSize, ScopeName, Text
from app.api.security import CanReadClients, CanWriteClients
from app.identity.names import MAX_USERNAME
from app.identity.registrations import (
    ClientIdTaken,
    ClientNotFound,
    get_registration,
    list_registrations,
)
from app.views import ClientAnswer, example

router = Router(prefix="/clients", tags=["clients"], responses=PROTECTED | refusals(422))

NO_SUCH_SCOPE = {404: "There is no scope read:orders: see the list of scopes."}
NOT_FOUND = refusals(404, texts={404: str(ClientNotFound())})
SHIPPED = refusals(409, texts={409: str(ShippedClient())})
ClientName = Annotated[Text, Field(min_length=1, max_length=MAX_REMARK)]
Uri = Annotated[Text, Field(max_length=MAX_REDIRECT_URI)]
Uris = Annotated[list[Uri], Field(max_length=MAX_REDIRECT_URIS)]
Flag = Annotated[bool, Strict()]
Grace = Annotated[
    int | None,
    Field(ge=LEAST_GRACE, le=MOST_GRACE, description="Seconds, in place of the service's."),
]
IdTokenAlgorithm = Annotated[
    Literal["RS256", "ES256", "EdDSA"],
    Field(description="What ID tokens are signed by, where a key of it signs; else RS256."),
]


class ClientPage(Page[ClientAnswer]):
    """One page of clients, by their ids."""


class ClientToRegister(BaseModel):
    """A client to register."""

    model_config = example(
        name="Orders",
        client_id="orders-app",
        redirect_uris=["https://orders.example/callback"],
        scopes=["read:items"],
    )

    name: ClientName = Field(description="People see it when they let the client in.")
    client_id: Annotated[Text, Field(max_length=MAX_USERNAME)] | None = Field(
        None, description="Without it, one is made."
    )
    redirect_uris: Uris
    post_logout_redirect_uris: Uris = []
    scopes: list[ScopeName] | None = Field(
        None,
        description="The most that its tokens may have. Without it: what you hold; by an admin, "
        "every scope but `admin`.",
    )
    confidential: Flag = Field(False, description="It has a secret, on a server.")
    trusted: Flag = Field(False, description="People are not asked for their consent.")
    refresh_grace: Grace = None
    id_token_signed_response_alg: IdTokenAlgorithm = "RS256"


class RegisteredClient(ClientAnswer):
    """The client that was registered."""

    client_secret: str | None = Field(None, description="A confidential client's, shown once.")

    @classmethod
    def with_secret(cls, answer: ClientAnswer, secret: str | None) -> Self:
        """Return the answer that shows this secret too."""
        return cls(**answer.model_dump(), client_secret=secret)


class ClientChange(BaseModel):
    """What to change of a client; what is absent stays."""

    model_config = example(scopes=["read:items"])

    name: ClientName = ""
    redirect_uris: Uris = []
    post_logout_redirect_uris: Uris = []
    scopes: list[ScopeName] | None = None
    trusted: Flag = False
    refresh_grace: Grace = None
    id_token_signed_response_alg: IdTokenAlgorithm = "RS256"

    def given(self) -> ClientChanges:
        """Return what is not absent."""
        return cast(ClientChanges, self.model_dump(exclude_unset=True))


@router.get("", summary="List clients")
async def list_clients(
    _: CanReadClients, db: ReadDep, limit: PageSize = 20, after: Text | None = None
) -> ClientPage:
    """Clients, by their ids."""
    found = await list_registrations(db, after=after, limit=limit + 1)
    return ClientPage.of([ClientAnswer.of(each) for each in found], limit=limit)


@router.post(
    "",
    summary="Register client",
    status_code=201,
    responses=refusals(404, 409, 413, texts=NO_SUCH_SCOPE | {409: str(ClientIdTaken())}),
)
async def make_client(
    new: ClientToRegister, work: CanWriteClients, response: Response
) -> RegisteredClient:
    """A new client. The secret of a confidential one is shown this once."""
    response.headers.update(NO_STORE)
    registration, secret = await register_client(work, NewClient(**new.model_dump()))
    answer = ClientAnswer.of(registration)
    return RegisteredClient.with_secret(answer, secret.value if secret else None)


@router.get("/{client_id:path}", summary="Get client", responses=NOT_FOUND)
async def get_client(client_id: ClientId, _: CanReadClients, db: ReadDep) -> ClientAnswer:
    """One client."""
    return ClientAnswer.of(await get_registration(db, client_id))


@router.patch(
    "/{client_id:path}", summary="Change client", responses=NOT_FOUND | SHIPPED | refusals(413)
)
async def patch_client(
    client_id: ClientId, change: ClientChange, work: CanWriteClients
) -> ClientAnswer:
    """The client, changed. What its ceiling loses, its tokens lose at once."""
    return ClientAnswer.of(await change_client(work, client_id, change.given()))


@router.delete(
    "/{client_id:path}", summary="Delete client", status_code=204, responses=NOT_FOUND | SHIPPED
)
async def remove_client(client_id: ClientId, work: CanWriteClients) -> None:
    """Delete the client. All its sessions and consents end."""
    await delete_client(work, client_id)
