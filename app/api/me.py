"""The user behind the token."""

from fastapi import APIRouter

from app.api.schemas import PROTECTED, Me
from app.api.security import AnyPrincipal

router = APIRouter(prefix="/users/me", tags=["me"], responses=PROTECTED)


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
    )
