"""The ways to revoke that the contestants have, each tried on two replicas."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from app.access import grants
from app.access.authority import Operator
from app.db.engine import open_engine
from app.db.work import Database
from bench.contestants import (
    ORM,
    TUTORIAL,
    USERS_DATABASE,
    USERS_JWT,
    Contestant,
    django_oauth_toolkit,
    fastapi_users_app,
    orm_look_up,
    scopegate_cached,
    scopegate_settings,
    scopegate_uncached,
    tutorial,
)
from bench.effort import Effort
from bench.fill import Population
from bench.peers.account import CLIENT_ID, USER_ID
from bench.peers.scopegate import SCOPED_PATH
from bench.postgres import Postgres, connect
from bench.progress import say
from bench.revocation import BOUND, Revocation, Way, measure
from bench.servers import serving
from bench.wire import ask_once, request

SHORT_LIFE = 3  # seconds, of tokens that are good until they expire
SCOPE = "read:items"
SOMEBODY = 1  # the number of a user whom the contest does not know


async def try_all(postgres: Postgres, population: Population, effort: Effort) -> list[Revocation]:
    """Try every way. The databases are those of the contest, which is over."""
    found = await _try_peers(postgres, effort.peer_tries)
    scopegate = postgres.url_of("scopegate")
    for contestant, tries in (
        (scopegate_cached(scopegate), effort.tries),
        (scopegate_uncached(scopegate), effort.peer_tries),
    ):
        found += await _scopegate(contestant, scopegate, population, tries)
    return found


async def _try_peers(postgres: Postgres, tries: int) -> list[Revocation]:
    fastapi_users = postgres.url_of("fastapi_users")
    by_jwt = fastapi_users_app(USERS_JWT, fastapi_users, strategy="jwt", token_seconds=SHORT_LIFE)
    by_row = fastapi_users_app(USERS_DATABASE, fastapi_users, strategy="database")
    toolkit = django_oauth_toolkit(postgres.url_of("toolkit"))
    jwt_only = tutorial(TUTORIAL, algorithm="HS256", token_seconds=SHORT_LIFE)
    until_expiry = SHORT_LIFE + BOUND
    return [
        await _by_request(jwt_only, "nothing to call", None, bound=until_expiry),
        await _orm(postgres.url_of("orm"), tries),
        await _by_request(by_jwt, "POST /auth/logout", _log_out, bound=until_expiry),
        await _by_request(by_row, "POST /auth/logout", _log_out, tries=tries),
        await _by_request(toolkit, "POST /o/revoke_token/", _revoke_token, tries=tries),
    ]


@asynccontextmanager
async def _replicas(contestant: Contestant) -> AsyncIterator[tuple[int, int]]:
    """The ports of two servers of that kind, on one database."""
    say(f"starting two replicas: {contestant.name}")
    async with serving(contestant.program) as one, serving(contestant.program) as other:
        yield one.port, other.port


def _log_out(token: str) -> bytes:
    return request("/auth/logout", method="POST", token=token, form={})


def _revoke_token(token: str) -> bytes:
    form = {"token": token, "client_id": CLIENT_ID}
    return request("/o/revoke_token/", method="POST", form=form)


async def _by_request(
    contestant: Contestant,
    what: str,
    revoking: Callable[[str], bytes] | None,
    *,
    tries: int = 1,
    bound: float = BOUND,
) -> Revocation:
    """Revoke by a request to the first replica; None: there is none that would."""
    async with _replicas(contestant) as ports:

        async def revoke(token: str) -> None:
            if revoking is not None:
                await ask_once(ports[0], revoking(token))

        way = Way(
            f"{contestant.name}: {what}",
            issue=lambda: contestant.sign_in(ports[0]),
            revoke=revoke,
            tries=tries,
            bound=bound,
        )
        return Revocation(way, *await measure(way, ports))


async def _orm(database: str, tries: int) -> Revocation:
    """Delete the row of a scope, by a connection of this process."""
    contestant = orm_look_up(ORM, database)
    connection = await connect(database)

    async def grant_and_sign_in() -> str:
        await connection.execute(
            "INSERT INTO user_scopes VALUES ($1, $2) ON CONFLICT DO NOTHING", USER_ID, SCOPE
        )
        return await contestant.sign_in(ports[0])

    async def take_scope(_: str) -> None:
        await connection.execute(
            "DELETE FROM user_scopes WHERE user_id = $1 AND scope = $2", USER_ID, SCOPE
        )

    try:
        async with _replicas(contestant) as ports:
            name = f"{contestant.name}: a scope is deleted"
            way = Way(name, issue=grant_and_sign_in, revoke=take_scope, tries=tries)
            return Revocation(way, *await measure(way, ports))
    finally:
        await connection.close()


async def _scopegate(
    contestant: Contestant, database: str, population: Population, tries: int
) -> list[Revocation]:
    """End a session over HTTP; and revoke a grant in this process, which is another one."""
    user_id, username = population.user_id(SOMEBODY), population.username(SOMEBODY)
    async with (
        _replicas(contestant) as ports,
        open_engine(scopegate_settings(database)) as engine,
    ):
        # The servers hear of it by the database alone, as of any other process.
        database_here = Database.of(
            engine, now=lambda: datetime.now(UTC), publish=lambda _: None, secret_keys=["bench"]
        )

        async def end_session(token: str) -> None:
            await ask_once(ports[0], request("/revoke", method="POST", form={"token": token}))

        async def grant_and_sign_in() -> str:
            async with database_here.work(Operator()) as work:
                await grants.grant(work, user_id, SCOPE)
            return await contestant.sign_in(ports[0], username)

        async def revoke_grant(_: str) -> None:
            async with database_here.work(Operator()) as work:
                await grants.revoke(work, user_id, SCOPE)

        name = contestant.name
        ways = [
            Way(f"{name}: POST /revoke", grant_and_sign_in, end_session, SCOPED_PATH, tries),
            Way(f"{name}: a grant is revoked", grant_and_sign_in, revoke_grant, SCOPED_PATH, tries),
        ]
        return [Revocation(way, *await measure(way, ports)) for way in ways]
