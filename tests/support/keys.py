"""Rotations of the signing key."""

from datetime import timedelta

from app.runtime import Runtime
from app.settings import Algorithm
from app.tokens.keys import rotate_key
from app.tokens.models import ACCESS_TOKENS, SigningKey
from tests.support.factories import OPERATOR


async def rotate(
    runtime: Runtime,
    *,
    algorithm: Algorithm = "ES256",
    purpose: str = ACCESS_TOKENS,
    publication: float = 300,
) -> SigningKey:
    async with runtime.work(OPERATOR) as work:
        return await rotate_key(
            work,
            runtime.cipher,
            algorithm=algorithm,
            purpose=purpose,
            publication=timedelta(seconds=publication),
            overlap=runtime.issuer.access_token_lifetime,
        )
