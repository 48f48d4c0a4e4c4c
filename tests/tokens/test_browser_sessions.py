"""Sessions of this service's own pages, as they are opened."""

from dataclasses import replace

import pytest

from app.identity.candidates import Authentication
from app.identity.login import LoginRefused
from app.identity.models import User
from app.identity.sessions import live_sessions
from app.runtime import Runtime
from app.tokens.browser import open_browser_session
from tests.support.factories import OPERATOR, Someone, make_user


async def open_one(runtime: Runtime, user: Someone, *, shown: str | None = None) -> str:
    """Sign the user in, who has shown the password with this hash; by default their own."""
    async with runtime.sessions() as db:
        row = await db.get_one(User, user.id)
    by = Authentication(user.id, shown or row.password_hash or "", at=runtime.now())
    issuer = replace(runtime.issuer, max_sessions=3)
    async with runtime.work(OPERATOR, at_once=True) as work:
        return await open_browser_session(work, issuer, by)


async def test_a_person_has_so_many_live_sessions_of_browsers_and_no_more(
    runtime: Runtime,
) -> None:
    user = await make_user(runtime)
    counts = []
    for _ in range(5):
        await open_one(runtime, user)
        async with runtime.sessions() as db:
            live = await live_sessions(db, user.id, after=None, limit=10, now=runtime.now())
        counts.append(len(live))
    assert counts == [1, 2, 3, 3, 3]


async def test_a_browser_session_is_refused_if_the_password_was_changed_meanwhile(
    runtime: Runtime,
) -> None:
    user = await make_user(runtime)
    with pytest.raises(LoginRefused):
        await open_one(runtime, user, shown="$argon2id$another")
