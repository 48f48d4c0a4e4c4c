"""The ways to revoke that the contestants have, each tried on two replicas."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import async_sessionmaker

from app.access import grants
from app.db.engine import open_engine
from bench.contestants import (
    USERS_DATABASE,
    USERS_JWT,
    Contestant,
    ask_once,
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
from bench.peers.scopegate import SCOPED
from bench.postgres import Postgres, connect
from bench.progress import say
from bench.revocation import BOUND, Revocation, Way, measure
from bench.servers import serving
from bench.wire import request

SHORT_LIFE = 3  # seconds, of tokens that are good until they expire
SCOPE = "read:items"
SOMEBODY = 1  # the number of a user whom the contest does not know


async def try_all(postgres: Postgres, population: Population, effort: Effort) -> list[Revocation]:
    """Try every way. The databases are those of the contest, which is over."""
    fastapi_users = postgres.url_of("fastapi_users")
    toolkit = postgres.url_of("toolkit")
    scopegate = postgres.url_of("scopegate")
    return [
        *await _tutorial(),
        *await _orm(postgres.url_of("orm"), effort.peer_tries),
        *await _fastapi_users_jwt(fastapi_users),
        *await _fastapi_users_database(fastapi_users, effort.peer_tries),
        *await _toolkit(toolkit, effort.peer_tries),
        *await _scopegate(scopegate_cached(scopegate), scopegate, population, effort.tries),
        *await _scopegate(scopegate_uncached(scopegate), scopegate, population, effort.peer_tries),
    ]


@asynccontextmanager
async def _replicas(contestant: Contestant) -> AsyncIterator[tuple[int, int]]:
    """The ports of two servers of that kind, on one database."""
    say(f"starting two replicas: {contestant.name}")
    async with serving(contestant.program) as one, serving(contestant.program) as other:
        yield one.port, other.port


async def _tutorial() -> list[Revocation]:
    contestant = tutorial("tutorial, JWT", algorithm="HS256", token_seconds=SHORT_LIFE)

    async def nothing(_: str) -> None:
        """There is no call to revoke with."""

    async with _replicas(contestant) as ports:
        way = Way(
            f"{contestant.name}: nothing to call",
            issue=lambda: contestant.sign_in(ports[0]),
            revoke=nothing,
            bound=SHORT_LIFE + BOUND,
            remark=f"until the token expires (here after {SHORT_LIFE} s)",
        )
        return [await measure(way, ports)]


async def _fastapi_users_jwt(database: str) -> list[Revocation]:
    contestant = fastapi_users_app(USERS_JWT, database, strategy="jwt", token_seconds=SHORT_LIFE)
    async with _replicas(contestant) as ports:
        way = _logging_out(
            contestant,
            ports[0],
            bound=SHORT_LIFE + BOUND,
            remark=f"until the token expires (here after {SHORT_LIFE} s); a disabled user at once",
        )
        return [await measure(way, ports)]


async def _fastapi_users_database(database: str, tries: int) -> list[Revocation]:
    contestant = fastapi_users_app(USERS_DATABASE, database, strategy="database")
    async with _replicas(contestant) as ports:
        return [await measure(_logging_out(contestant, ports[0], tries=tries), ports)]


def _logging_out(
    contestant: Contestant, port: int, *, tries: int = 1, bound: float = BOUND, remark: str = ""
) -> Way:
    async def log_out(token: str) -> None:
        await ask_once(port, request("/auth/logout", method="POST", token=token, form={}))

    return Way(
        f"{contestant.name}: POST /auth/logout",
        issue=lambda: contestant.sign_in(port),
        revoke=log_out,
        tries=tries,
        bound=bound,
        remark=remark,
    )


async def _toolkit(database: str, tries: int) -> list[Revocation]:
    contestant = django_oauth_toolkit(database)
    async with _replicas(contestant) as ports:

        async def revoke(token: str) -> None:
            form = {"token": token, "client_id": CLIENT_ID}
            await ask_once(ports[0], request("/o/revoke_token/", method="POST", form=form))

        way = Way(
            f"{contestant.name}: POST /o/revoke_token/",
            issue=lambda: contestant.sign_in(ports[0]),
            revoke=revoke,
            tries=tries,
        )
        return [await measure(way, ports)]


async def _orm(database: str, tries: int) -> list[Revocation]:
    contestant = orm_look_up(database)
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
            return [await measure(way, ports)]
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
        sessions = async_sessionmaker(engine)

        async def end_session(token: str) -> None:
            await ask_once(ports[0], request("/revoke", method="POST", form={"token": token}))

        async def grant_and_sign_in() -> str:
            async with sessions.begin() as session:
                await grants.grant(session, user_id=user_id, scope=SCOPE)
            return await contestant.sign_in(ports[0], username)

        async def revoke_grant(_: str) -> None:
            async with sessions.begin() as session:
                await grants.revoke(session, user_id=user_id, scope=SCOPE)

        name = contestant.name
        ways = [
            Way(f"{name}: POST /revoke", grant_and_sign_in, end_session, SCOPED, tries),
            Way(f"{name}: a grant is revoked", grant_and_sign_in, revoke_grant, SCOPED, tries),
        ]
        return [await measure(way, ports) for way in ways]
