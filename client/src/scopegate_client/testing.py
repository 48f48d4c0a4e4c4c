"""For the tests of a service: each request is from a principal, without Scopegate and tokens."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from scopegate_client.client import Scopegate
from scopegate_client.principals import Principal

SUBJECT = "01890000-0000-7000-8000-000000000001"


@contextmanager
def signed_in(
    scopegate: Scopegate,
    *,
    scopes: Iterable[str] = (),
    subject: str = SUBJECT,
    client_id: str = "scopegate",
) -> Iterator[Principal]:
    """Have each request of the block come from this principal, whatever token it carries.

    The scopes that a route names are still required: 403 without them. A lifespan that begins in
    the block connects to nothing.
    """
    now, held = datetime.now(UTC), frozenset(scopes)
    claims = {"sub": subject, "client_id": client_id, "sid": "test", "jti": "test"}
    principal = Principal(
        subject=subject,
        scopes=held,
        client_id=client_id,
        session_id="test",
        issued_at=now,
        expires_at=now + timedelta(minutes=15),
        claims=claims | {"scope": " ".join(sorted(held))},
    )
    before, scopegate.stand_in = scopegate.stand_in, principal
    try:
        yield principal
    finally:
        scopegate.stand_in = before
