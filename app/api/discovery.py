"""What other services need to know to trust these tokens."""

from fastapi import APIRouter

from app.api.dependencies import RuntimeDep
from app.api.schemas import Jwks
from app.api.security import PUBLIC

router = APIRouter(prefix="/.well-known", tags=["discovery"], dependencies=[PUBLIC])


@router.get("/jwks.json")
async def jwks(runtime: RuntimeDep) -> Jwks:
    """The public keys that verify this service's tokens (RFC 7517)."""
    return Jwks.model_validate(runtime.tokens.keyring.jwks())
