"""The life of an account, for people without a token: sign-up, addresses, forgotten passwords.

Routes that take an address answer the same, after the same work, whether it has an account or not.
"""

from fastapi import Response
from pydantic import BaseModel, Field

from app.access import own_address, password_links
from app.access.letters import ask_by_address
from app.access.sign_ups import Wanted, sign_up
from app.api.answers import refusals
from app.api.dependencies import ActorDep, RuntimeDep
from app.api.routing import Router
from app.api.security import PUBLIC
from app.errors import NotFound
from app.identity.links import BadLink
from app.identity.names import LONGEST_SPELLING
from app.identity.requests import AskedTooOften
from app.identity.users import AddressTaken
from app.views import example

EMAIL = "alice@example.com"
TOKEN = "sgl_Zm9yIGV4YW1wbGUgYWxvbmUsIG5vIHRva2Vu"
PASSWORD = "correct horse battery staple"
"""In examples."""

TOO_OFTEN = refusals(413, 422, 429, 503, texts={429: str(AskedTooOften.text)})
BY_LINK = refusals(400, 413, 422, 503, texts={400: str(BadLink())})

router = Router(tags=["accounts"], dependencies=[PUBLIC])


class SignUpIsOff(NotFound):
    """People can't make accounts for themselves here."""

    text = "There is no sign-up here: ask for an invitation."


class NewAccount(BaseModel):
    """The account that you want."""

    model_config = example(username="alice", email=EMAIL, password=PASSWORD)

    username: str
    email: str
    password: str


class AddressOnly(BaseModel):
    """An e-mail address."""

    model_config = example(email=EMAIL)

    email: str


class VerificationWish(AddressOnly):
    """An e-mail address, and whose it is."""

    model_config = example(email=EMAIL, username="alice")

    username: str = Field(
        "",
        max_length=LONGEST_SPELLING,
        description="Whose address it is. Without it, the newest account with this address.",
    )


class LinkOnly(BaseModel):
    """The token of a link."""

    model_config = example(token=TOKEN)

    token: str


class LinkAndPassword(BaseModel):
    """The token of a link, and the password as it shall be."""

    model_config = example(token=TOKEN, password=PASSWORD)

    token: str
    password: str


@router.post(
    "/sign-up",
    summary="Sign up",
    status_code=202,
    responses=TOO_OFTEN | refusals(404, 409),
    response_class=Response,
)
async def make_account(new: NewAccount, actor: ActorDep, runtime: RuntimeDep) -> None:
    """Make an account. It works once you have used the link that is mailed to you."""
    if runtime.settings.sign_up != "open":
        raise SignUpIsOff
    await sign_up(
        runtime.guard,
        runtime.letters,
        Wanted(new.username, new.email, new.password),
        scopes=runtime.settings.sign_up_scopes,
        actor=actor,
    )


@router.post(
    "/email-verification",
    summary="Ask for verification",
    status_code=202,
    responses=TOO_OFTEN,
    response_class=Response,
)
async def ask_for_verification(
    wanted: VerificationWish, actor: ActorDep, runtime: RuntimeDep
) -> None:
    """Mail another link that confirms this address, if an account waits for it."""
    await ask_by_address(
        runtime.guard,
        runtime.letters,
        "verify",
        wanted.email,
        username=wanted.username,
        actor=actor,
    )


@router.post(
    "/email-verification/confirm",
    summary="Confirm address",
    status_code=204,
    responses=BY_LINK | refusals(409, texts={409: str(AddressTaken())}),
)
async def confirm_address(link: LinkOnly, actor: ActorDep, runtime: RuntimeDep) -> None:
    """Confirm the address that this link was mailed to."""
    await own_address.confirm_address(
        runtime.database, runtime.letters, token=link.token, actor=actor
    )


@router.post(
    "/password-reset",
    summary="Ask for password reset",
    status_code=202,
    responses=TOO_OFTEN,
    response_class=Response,
)
async def ask_for_reset(wanted: AddressOnly, actor: ActorDep, runtime: RuntimeDep) -> None:
    """Mail a link that sets another password, if this is an account's confirmed address."""
    await ask_by_address(
        runtime.guard, runtime.letters, "reset", wanted.email, username="", actor=actor
    )


@router.post(
    "/password-reset/confirm", summary="Reset password", status_code=204, responses=BY_LINK
)
async def reset_password(link: LinkAndPassword, actor: ActorDep, runtime: RuntimeDep) -> None:
    """Set another password. All sessions of the account end."""
    await password_links.reset_password(
        runtime.guard, token=link.token, password=link.password, actor=actor
    )


@router.post(
    "/email-change/undo",
    summary="Undo change of address",
    status_code=204,
    responses=BY_LINK | refusals(409, texts={409: str(AddressTaken())}),
)
async def undo_change_of_address(link: LinkOnly, actor: ActorDep, runtime: RuntimeDep) -> None:
    """Give the account its old address back. All its sessions end."""
    await own_address.undo_change_of_address(
        runtime.database, runtime.letters, token=link.token, actor=actor
    )


@router.post("/invitation/accept", summary="Accept invitation", status_code=204, responses=BY_LINK)
async def accept_invitation(link: LinkAndPassword, actor: ActorDep, runtime: RuntimeDep) -> None:
    """Set the password of the account that you were invited to."""
    await password_links.accept_invitation(
        runtime.guard, token=link.token, password=link.password, actor=actor
    )
