"""Who is compared: how each is started, how one signs in, which of its routes is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.settings import Settings
from bench.errors import BenchmarkFailed
from bench.fill import ITEM_ID, Population, fill
from bench.peers.account import CLIENT_ID, EMAIL, PASSWORD, SCOPES, SECRET, USER_ID, USERNAME
from bench.peers.scopegate import BARE_ITEM_PATH, BARE_PATH, PUBLIC_PATH, SCOPED_PATH
from bench.postgres import Postgres
from bench.servers import OURS, PEERS, Program, gunicorn, run_to_its_end, uvicorn
from bench.wire import HOST, ask_once, request

BARE = "bare FastAPI route"
TUTORIAL = "tutorial, JWT HS256"
TUTORIAL_ES256 = "tutorial, JWT ES256"
ORM = "one ORM look-up"
ORM_PING = "one ORM look-up, pre-ping"
USERS_JWT = "fastapi-users, JWT"
USERS_DATABASE = "fastapi-users, database"
TOOLKIT = "django-oauth-toolkit"
SERVICE = "Scopegate"
SCOPEGATE = "Scopegate, GET /users/me"
SCOPEGATE_BARE = "Scopegate's bare route"
SCOPEGATE_PUBLIC = "Scopegate's bare route, marked public"
SCOPEGATE_SCOPED = "Scopegate's bare route, with a scope"
SCOPEGATE_ITEM = "Scopegate, GET /items/{id}"
SCOPEGATE_BARE_ITEM = "Scopegate's bare item"
SCOPEGATE_ITEMS = "Scopegate, GET /items"
SCOPEGATE_HEALTH = "Scopegate, GET /health/live"
SCOPEGATE_OFF = "Scopegate, cache off, GET /users/me"

UNPROTECTED = (
    (SCOPEGATE_SCOPED, SCOPEGATE_BARE),
    (SCOPEGATE_SCOPED, SCOPEGATE_PUBLIC),
    (SCOPEGATE, SCOPEGATE_BARE),
    (SCOPEGATE_ITEM, SCOPEGATE_BARE_ITEM),
)
"""Scopegate's protected routes, and what does the same without asking who wants it."""
PEER_NAMES = (TUTORIAL, TUTORIAL_ES256, ORM, ORM_PING, USERS_JWT, USERS_DATABASE, TOOLKIT)


class NotSignedIn(BenchmarkFailed):
    """A contestant did not let the bench's user in."""


@dataclass(frozen=True)
class Route:
    """What is measured."""

    name: str
    path: str = "/users/me"
    protected: bool = True


@dataclass(frozen=True)
class SignIn:
    """How one gets a token: by a form with a name and a password."""

    path: str
    username: str = USERNAME
    more: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, port: int, username: str | None = None) -> str:
        """A new access token. Raises NotSignedIn."""
        form = {"grant_type": "password", "username": username or self.username}
        form |= {"password": PASSWORD, "scope": " ".join(SCOPES), **self.more}
        answer = await ask_once(port, request(self.path, method="POST", form=form))
        if answer.status != 200:
            raise NotSignedIn(f"{self.path} answered {answer.status}: {answer.body.decode()}")
        token: str = answer.json()["access_token"]
        return token


@dataclass(frozen=True)
class Contestant:
    """A server with one worker, and its routes that are measured."""

    name: str
    program: Program
    sign_in: SignIn
    routes: tuple[Route, ...]


async def line_up(postgres: Postgres, population: Population) -> list[Contestant]:
    """All contestants, each with its database prepared."""
    orm = await postgres.create("orm")
    fastapi_users = await postgres.create("fastapi_users")
    scopegate = await postgres.create("scopegate")
    toolkit = await postgres.create("toolkit")
    await prepare_scopegate(scopegate, population)
    preparation = [PEERS, "-m", "bench.peers.toolkit.prepare"]
    await run_to_its_end(Program(preparation, {"BENCH_DATABASE_URL": toolkit}))
    return [
        bare(),
        tutorial(TUTORIAL, algorithm="HS256"),
        tutorial(TUTORIAL_ES256, algorithm="ES256"),
        orm_look_up(ORM, orm),
        orm_look_up(ORM_PING, orm, BENCH_PRE_PING="1"),
        fastapi_users_app(USERS_JWT, fastapi_users, strategy="jwt"),
        fastapi_users_app(USERS_DATABASE, fastapi_users, strategy="database"),
        django_oauth_toolkit(toolkit),
        scopegate_cached(scopegate),
        scopegate_uncached(scopegate),
    ]


def bare() -> Contestant:
    """The limit."""
    program = uvicorn(PEERS, "bench.peers.bare:app")
    return Contestant(BARE, program, SignIn(""), (Route(BARE, protected=False),))


def tutorial(name: str, *, algorithm: str, token_seconds: int = 3600) -> Contestant:
    """What the token says counts."""
    settings = {"BENCH_ALGORITHM": algorithm, "BENCH_TOKEN_SECONDS": str(token_seconds)}
    program = uvicorn(PEERS, "bench.peers.tutorial:app", **settings)
    return Contestant(name, program, SignIn("/token"), (Route(name),))


def orm_look_up(name: str, database: str, **settings: str) -> Contestant:
    """The user and their scopes are read at each request."""
    program = uvicorn(PEERS, "bench.peers.orm:app", BENCH_DATABASE_URL=database, **settings)
    return Contestant(name, program, SignIn("/token"), (Route(name),))


def fastapi_users_app(
    name: str, database: str, *, strategy: str, token_seconds: int = 3600
) -> Contestant:
    """The library, with one of its strategies."""
    settings = {"BENCH_DATABASE_URL": database, "BENCH_STRATEGY": strategy}
    settings["BENCH_TOKEN_SECONDS"] = str(token_seconds)
    program = uvicorn(PEERS, "bench.peers.fastapi_users_app:app", **settings)
    return Contestant(name, program, SignIn("/auth/login", EMAIL), (Route(name),))


def django_oauth_toolkit(database: str) -> Contestant:
    """Django."""
    app = "bench.peers.toolkit.wsgi:application"
    program = gunicorn(PEERS, app, threads=8, BENCH_DATABASE_URL=database)
    sign_in = SignIn("/o/token/", more={"client_id": CLIENT_ID})
    return Contestant(TOOLKIT, program, sign_in, (Route(TOOLKIT),))


def scopegate_cached(database: str) -> Contestant:
    """Scopegate as it comes, and what its routes are held to, in the same server."""
    bare_item = BARE_ITEM_PATH.format(owner_id=USER_ID, item_id=ITEM_ID)
    routes = (
        Route(SCOPEGATE),
        Route(SCOPEGATE_BARE, BARE_PATH, protected=False),
        Route(SCOPEGATE_PUBLIC, PUBLIC_PATH, protected=False),
        Route(SCOPEGATE_SCOPED, SCOPED_PATH),
        Route(SCOPEGATE_ITEM, f"/items/{ITEM_ID}"),
        Route(SCOPEGATE_BARE_ITEM, bare_item, protected=False),
        Route(SCOPEGATE_ITEMS, "/items"),
        Route(SCOPEGATE_HEALTH, "/health/live", protected=False),
    )
    return Contestant(SERVICE, _scopegate(database), SignIn("/token"), routes)


def scopegate_uncached(database: str) -> Contestant:
    """Scopegate, asking the database at each request."""
    program = _scopegate(database, SCOPEGATE_CACHE_SIZE="0")
    return Contestant("Scopegate, cache off", program, SignIn("/token"), (Route(SCOPEGATE_OFF),))


def scopegate_served(database: str, *, workers: int = 1) -> Contestant:
    """Scopegate as an operator runs it: by its own command, without the bench's routes."""
    command = [OURS, "-m", "app", "serve", "--workers", str(workers)]
    program = Program(command, scopegate_environment(database))
    return Contestant(SERVICE, program, SignIn("/token"), (Route(SCOPEGATE),))


def connected(database: str) -> Program:
    """An app that imports what Scopegate does from others, and asks the database once."""
    return uvicorn(OURS, "bench.peers.connected:app", BENCH_DATABASE_URL=database)


def scopegate_hashing(database: str, *, threads: int) -> Contestant:
    """Scopegate with so many threads that hash passwords."""
    program = _scopegate(database, SCOPEGATE_HASH_THREADS=str(threads))
    return Contestant(f"Scopegate, {threads} hashing", program, SignIn("/token"), ())


def scopegate_behind_proxy(database: str) -> Contestant:
    """Scopegate, believing whoever measures it where a request is from."""
    program = _scopegate(database, SCOPEGATE_TRUSTED_PROXIES=HOST)
    return Contestant("Scopegate, behind a proxy", program, SignIn("/token"), ())


async def prepare_scopegate(database: str, population: Population) -> None:
    """Migrate an empty database and fill it."""
    await run_to_its_end(Program([OURS, "-m", "app", "migrate"], scopegate_environment(database)))
    await fill(database, population)


def scopegate_settings(database: str, **more: str) -> Settings:
    """The settings of a Scopegate in this process, the same as of those that serve."""
    return Settings(_env_file=None, **_shared(database), **more)  # type: ignore[arg-type]


def _scopegate(database: str, **settings: str) -> Program:
    app = "bench.peers.scopegate:create_app"
    return uvicorn(OURS, app, "--factory", **scopegate_environment(database), **settings)


def scopegate_environment(database: str) -> dict[str, str]:
    """The variables that a Scopegate on this database is set up by."""
    return {f"SCOPEGATE_{name.upper()}": value for name, value in _shared(database).items()}


def _shared(database: str) -> dict[str, str]:
    """What all replicas of one Scopegate have in common."""
    return {
        "environment": "production",
        "database_url": database,
        "secret_keys": SECRET,
        "issuer": "http://scopegate.example",
    }
