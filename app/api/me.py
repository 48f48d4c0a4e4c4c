"""The user behind the token: who they are, their password, their sessions."""

import uuid

from app.api.answers import PROTECTED, refusals
from app.api.dependencies import ActorDep, RuntimeDep, SessionDep
from app.api.schemas import Limit, Me, Page, PasswordChange, SessionAnswer
from app.api.security import AnyPrincipal, Router
from app.identity.login import change_password
from app.identity.sessions import end_own_session, end_sessions_of, live_sessions

router = Router(prefix="/users/me", tags=["me"], responses=PROTECTED)


@router.get("")
async def me(principal: AnyPrincipal) -> Me:
    """Who the token stands for, and what it may do now."""
    return Me(
        id=principal.user_id,
        username=principal.username,
        kind=principal.kind,
        created_at=principal.created_at,
        scopes=sorted(principal.scopes),
        granted=sorted(principal.granted),
        granted_until={scope: end for scope, end in sorted(principal.granted.items()) if end},
    )


@router.post("/password", status_code=204, responses=refusals(413, 422, 429))
async def set_password(
    change: PasswordChange, principal: AnyPrincipal, actor: ActorDep, runtime: RuntimeDep
) -> None:
    """A new password; all other sessions end."""
    await change_password(
        runtime.sessions,
        runtime.hasher,
        runtime.throttle,
        user_id=principal.user_id,
        session_id=principal.session_id,
        current=change.current_password,
        new=change.new_password,
        by=actor.signed_in_as(principal.user_id),
        now=runtime.now(),
    )


@router.get("/sessions", responses=refusals(422))
async def list_sessions(
    principal: AnyPrincipal,
    runtime: RuntimeDep,
    session: SessionDep,
    limit: Limit = 20,
    after: uuid.UUID | None = None,
) -> Page[SessionAnswer]:
    """One's own live sessions, soonest to expire first."""
    found = await live_sessions(
        session, principal.user_id, after=after, limit=limit + 1, now=runtime.now()
    )
    return Page.of([SessionAnswer.model_validate(each) for each in found], limit=limit)


@router.delete("/sessions/{session_id}", status_code=204, responses=refusals(404, 422))
async def end_one_session(
    session_id: uuid.UUID,
    principal: AnyPrincipal,
    actor: ActorDep,
    runtime: RuntimeDep,
    session: SessionDep,
) -> None:
    """End one of one's own sessions; repeating it changes nothing."""
    by = actor.signed_in_as(principal.user_id)
    await end_own_session(session, session_id, by=by, now=runtime.now())


@router.delete("/sessions", status_code=204)
async def end_all_sessions(
    principal: AnyPrincipal, actor: ActorDep, runtime: RuntimeDep, session: SessionDep
) -> None:
    """End all of one's own sessions, this one too."""
    await end_sessions_of(
        session,
        principal.user_id,
        reason="ended by its user",
        by=actor.signed_in_as(principal.user_id),
        now=runtime.now(),
    )
