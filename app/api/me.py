"""The user behind the token: who they are, their password, their sessions."""

import uuid
from datetime import datetime
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.access.authority import Caller, LastAdmin
from app.access.consents import ApplicationNotFound, list_applications, withdraw_consent
from app.access.erasure import erase_oneself
from app.access.own_account import TooManyExports, begin_export, end_own_session, end_own_sessions
from app.access.own_address import ask_to_change_address
from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ActorDep, ReadDep, RuntimeDep
from app.api.errors import NO_STORE
from app.api.routing import Router
from app.api.schemas import ClientId, Page, PageSize, Text
from app.api.security import AnyPrincipal, OwnHand, OwnWork
from app.identity.login import change_password
from app.identity.sessions import SessionNotFound, live_sessions
from app.ops.personal_data import export_of
from app.runtime import Runtime
from app.views import ALICE, ApplicationAnswer, SessionAnswer, example

router = Router(prefix="/users/me", tags=["me"], responses=PROTECTED)


class Me(BaseModel):
    """The user behind the token."""

    model_config = example(
        id=ALICE,
        username="alice",
        kind="person",
        created_at="2027-01-04T08:00:00Z",
        email="alice@example.com",
        email_verified=True,
        scopes=["read:items"],
        granted=["read:audit", "read:items"],
        granted_until={"read:audit": "2027-01-31T18:00:00Z"},
    )

    id: uuid.UUID
    username: str
    kind: str
    created_at: datetime
    email: str | None
    email_verified: bool
    scopes: list[str] = Field(description="Effective: in the token, and granted now.")
    granted: list[str] = Field(description="Held now, whatever the token may use of it.")
    granted_until: dict[str, datetime] = Field(
        description="When those of these end that end by themselves."
    )


class OwnSessionAnswer(SessionAnswer):
    """One of your own logins, or of your personal access tokens."""

    current: bool = Field(False, description="This token's session.")


class OwnSessionPage(Page[OwnSessionAnswer]):
    """One page of your own sessions. The one that expires first comes first."""


class ApplicationPage(Page[ApplicationAnswer]):
    """One page of the clients that you have let in."""


class PasswordChange(BaseModel):
    """The password as it is, and as it shall be."""

    model_config = example(
        current_password="right horse battery staple",  # noqa: S106
        new_password="wrong donkey battery staple",  # noqa: S106
    )

    current_password: str
    new_password: str


class AddressChange(BaseModel):
    """The new address, and the password."""

    model_config = example(
        email="alice@example.com",
        current_password="correct horse battery staple",  # noqa: S106
    )

    email: str
    current_password: str


@router.get("", summary="Get me")
async def me(principal: AnyPrincipal) -> Me:
    """Who the token stands for, and what it may do now."""
    holder = principal.holder
    # It is a third party's no business what else the person holds.
    granted = {
        scope: end
        for scope, end in sorted(holder.granted.items())
        if scope in holder.held or not holder.is_third_party
    }
    may_see_email = "email" in principal.scopes or not holder.is_third_party
    return Me(
        id=principal.user_id,
        username=principal.username,
        kind=holder.kind,
        created_at=holder.created_at,
        email=holder.email if may_see_email else None,
        email_verified=holder.email_verified and may_see_email,
        scopes=sorted(principal.scopes),
        granted=list(granted),
        granted_until={scope: end for scope, end in granted.items() if end},
    )


EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}}, "description": "All of it, as one JSON object."}
}


class Erasure(BaseModel):
    """The password, once more: an account that is deleted does not come back."""

    model_config = example(current_password="right horse battery staple")  # noqa: S106

    current_password: str


@router.delete(
    "",
    summary="Delete me",
    status_code=204,
    responses=refusals(409, 413, 422, 429, texts={409: str(LastAdmin())}),
)
async def erase_me(
    erasure: Erasure, principal: OwnHand, actor: ActorDep, runtime: RuntimeDep
) -> None:
    """Delete your account and all that is yours. Your name stays taken for 30 days."""
    await erase_oneself(
        runtime.guard,
        Caller.of(principal, actor.origin),
        session_id=principal.session_id,
        password=erasure.current_password,
    )


@router.get(
    "/export",
    summary="Export what is kept about me",
    response_class=StreamingResponse,
    responses={**EXPORTED, **refusals(429, texts={429: TooManyExports.text})},
)
async def export_me(principal: OwnHand, actor: ActorDep, runtime: RuntimeDep) -> Response:
    """Everything that is kept about you, the audit entries about you too. At most 5 an hour."""
    async with runtime.work(Caller.of(principal, actor.origin)) as work:
        await begin_export(work, session_id=principal.session_id)
    return export_answer(runtime, principal.user_id)


def export_answer(runtime: Runtime, user_id: uuid.UUID) -> StreamingResponse:
    """Return the answer that sends a user's data, as a file. The caller has audited the export."""
    return StreamingResponse(
        export_of(runtime.reading, user_id, now=runtime.now()),
        media_type="application/json",
        headers={
            **NO_STORE,
            "Content-Disposition": 'attachment; filename="scopegate-export.json"',
        },
    )


@router.post(
    "/password", summary="Change my password", status_code=204, responses=refusals(413, 422, 429)
)
async def set_password(
    change: PasswordChange, principal: OwnHand, actor: ActorDep, runtime: RuntimeDep
) -> None:
    """A new password; all other sessions end. Personal access tokens go on."""
    await change_password(
        runtime.guard,
        principal.user_id,
        session_id=principal.session_id,
        current=change.current_password,
        new=change.new_password,
        actor=actor.signed_in_as(principal.user_id),
    )


@router.post(
    "/email",
    summary="Change my address",
    status_code=202,
    responses=refusals(413, 422, 429),
    response_class=Response,
)
async def change_address(
    change: AddressChange, principal: OwnHand, actor: ActorDep, runtime: RuntimeDep
) -> None:
    """Mail a link to your new address. It counts once you have used the link."""
    await ask_to_change_address(
        runtime.guard,
        runtime.letters,
        principal,
        email=change.email,
        password=change.current_password,
        actor=actor.signed_in_as(principal.user_id),
    )


@router.get("/sessions", summary="List my sessions", responses=refusals(422))
async def list_sessions(
    principal: AnyPrincipal,
    runtime: RuntimeDep,
    db: ReadDep,
    limit: PageSize = 20,
    after: uuid.UUID | None = None,
) -> OwnSessionPage:
    """Your own live sessions. The one that expires first comes first."""
    found = await live_sessions(
        db, principal.user_id, after=after, limit=limit + 1, now=runtime.now()
    )
    own = [OwnSessionAnswer.model_validate(each) for each in found]
    for each in own:
        each.current = each.id == principal.session_id
    return OwnSessionPage.of(own, limit=limit)


@router.delete(
    "/sessions/{session_id}",
    summary="End my session",
    status_code=204,
    responses=refusals(404, 422, texts={404: str(SessionNotFound())}),
)
async def end_one_session(session_id: uuid.UUID, work: OwnWork) -> None:
    """End one of your own sessions; repeating it changes nothing."""
    await end_own_session(work, session_id)


@router.delete("/sessions", summary="End my sessions", status_code=204)
async def end_all_sessions(work: OwnWork) -> None:
    """End all of your own sessions, this one and your personal access tokens too."""
    await end_own_sessions(work)


@router.get("/applications", summary="List my applications", responses=refusals(422))
async def list_own_applications(
    principal: AnyPrincipal, db: ReadDep, limit: PageSize = 20, after: Text | None = None
) -> ApplicationPage:
    """The clients that you have let in, by their ids."""
    found = await list_applications(db, principal.user_id, after=after, limit=limit + 1)
    return ApplicationPage.of(
        [ApplicationAnswer.model_validate(each) for each in found], limit=limit
    )


@router.delete(
    "/applications/{client_id:path}",
    summary="Withdraw my consent",
    status_code=204,
    responses=refusals(404, 422, texts={404: str(ApplicationNotFound())}),
)
async def withdraw_own_consent(client_id: ClientId, work: OwnWork) -> None:
    """Let the client do nothing more for you. Its sessions of yours end at once."""
    await withdraw_consent(work, client_id)
