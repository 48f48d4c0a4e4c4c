"""Rotations of the signing key."""

from datetime import timedelta

from app.runtime import Runtime
from app.tokens.keys import (
    rotate_key,
)
from app.tokens.models import SigningKey
from tests.support.factories import OPERATOR


async def rotate(runtime: Runtime, *, publication: float = 300) -> SigningKey:
    async with runtime.work(OPERATOR) as work:
        return await rotate_key(
            work,
            runtime.cipher,
            algorithm="ES256",
            publication=timedelta(seconds=publication),
            overlap=runtime.issuer.access_token_lifetime,
        )
