"""Login: what it costs, what it holds, and what it renews."""

import asyncio
import uuid

import httpx2
import pytest
from passlib.hash import bcrypt
from sqlalchemy import event, select, update

from app.db.locks import Lock
from app.identity.hash_kinds import KnownHash
from app.identity.locks import _lock_key
from app.identity.login import LoginRefused
from app.identity.models import User
from app.runtime import Runtime
from tests.support.factories import OPERATOR, PASSWORD, authenticated, login, make_user


async def test_bcrypt_is_upgraded_to_argon2id_at_login(runtime: Runtime) -> None:
    someone = await make_user(runtime)
    old = bcrypt.using(rounds=4).hash(PASSWORD)
    async with runtime.work(OPERATOR) as work:
        await work.db.execute(update(User).values(password_hash=old))
    with pytest.raises(LoginRefused):
        await authenticated(runtime, someone.username, "wrong")
    async with runtime.sessions() as db:
        assert await db.scalar(select(User.password_hash)) == old
    for _ in range(2):
        await authenticated(runtime, someone.username, PASSWORD)
    async with runtime.sessions() as db:
        renewed = await db.scalar(select(User.password_hash))
    assert renewed
    assert renewed.startswith("$argon2id$")


async def test_unknown_users_cost_a_verification_too(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    context = runtime.hasher._context
    verify = context.verify

    def noted(secret: str, password_hash: str) -> bool:
        calls.append(password_hash)
        return verify(secret, password_hash)

    monkeypatch.setattr(context, "verify", noted)
    with pytest.raises(LoginRefused):
        await authenticated(runtime, "nobody", PASSWORD)
    assert calls == [runtime.hasher.cost.dummy]


async def test_no_connection_is_held_while_a_password_is_hashed(own_runtime: Runtime) -> None:
    someone = await make_user(own_runtime)
    held = 0

    def out(*_: object) -> None:
        nonlocal held
        held += 1

    def back(*_: object) -> None:
        nonlocal held
        held -= 1

    pool = own_runtime.engine.sync_engine.pool
    event.listen(pool, "checkout", out)
    event.listen(pool, "checkin", back)
    held_while_hashing: list[int] = []
    verify = own_runtime.hasher._verify

    def watched(password: str, known: KnownHash | None) -> tuple[bool, str | None]:
        held_while_hashing.append(held)
        return verify(password, known)

    own_runtime.hasher._verify = watched  # type: ignore[method-assign]
    await authenticated(own_runtime, someone.username, PASSWORD)
    assert held_while_hashing == [0]


async def test_first_logins_at_once_after_an_import_all_come_in(
    own_client: httpx2.AsyncClient, own_runtime: Runtime
) -> None:
    """Each of them would renew the hash, and one does."""
    someone = await make_user(own_runtime)
    old = bcrypt.using(rounds=4).hash(PASSWORD)
    async with own_runtime.work(OPERATOR) as work:
        await work.db.execute(update(User).values(password_hash=old))
    answers = await asyncio.gather(*(login(own_client, someone) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8


def test_no_invented_id_is_the_key_of_another_lock() -> None:
    for number in (0, *Lock, 2**63, 2**64 - 1):
        assert _lock_key(uuid.UUID(int=number)) < 0, "and all others' are not"
