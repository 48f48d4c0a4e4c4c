"""Fixtures. Real Postgres, real tokens; two tiers of isolation:

- `runtime`, `client`: one database a worker, every test in a transaction that is rolled back.
- `own_runtime`, `own_client`: a database of the test's own, for what commits, races or notifies.
"""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path

import httpx2
import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker

from app.access.principals import Principals
from app.db.changes import ChangeFeed
from app.identity.throttle import Throttle
from app.main import create_app
from app.ops.background import end
from app.runtime import Runtime
from app.settings import Settings
from app.tokens.verification import AccessTokens
from tests.support import databases
from tests.support.clock import MovableClock
from tests.support.commands import Environment
from tests.support.faults import OwnPostgres
from tests.support.hashing import hashing_quickly
from tests.support.processes import until
from tests.support.servers import Server, start_server

SECRET = "a-secret-for-the-tests-only-0123456789"
SERVER = pytest.StashKey[Server]()
LONGEST_TEST = 1200.0  # seconds: a deadline against hanging, not a budget
LONGEST_FIRST = ("docker", "toolchain", "npm", "browser", "system", "long")
"""Marks of long tests: files with the first one run first."""
SYSTEM_TESTS = Path(__file__).parent / "system"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a hash by its argument: it has another salt in each process, and workers must agree."""
    is_hash = isinstance(val, str) and any(each in val for each in ("$2", "$argon2", "{SSHA}"))
    return argname if is_hash else None


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith(("SCOPEGATE_", "OTEL_"))]:
        if not name.startswith("SCOPEGATE_TEST_"):
            del os.environ[name]
    if not hasattr(config, "workerinput"):
        config.stash[SERVER] = start_server()


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(SERVER, None):
        server.stop()


def pytest_report_header(config: pytest.Config) -> str:
    server = config.stash.get(SERVER, None)
    return f"postgres: {server.name}" if server else ""


def pytest_itemcollected(item: pytest.Item) -> None:
    if not isinstance(item, pytest.Function):
        return
    if inspect.iscoroutinefunction(item.obj):
        item.obj = _ending(item.obj)
    if SYSTEM_TESTS in item.path.parents or "own_postgres" in item.fixturenames:
        item.add_marker("system")


# After pytest has put tests with the same parameters side by side.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first: at the end all workers are done at about the same time."""
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())
    items.sort(key=lambda item: [mark not in marks[item.path] for mark in LONGEST_FIRST])


def _ending(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The test, which fails where it waits for ever.

    What this can't end, because it keeps the event loop busy or waits in a fixture, faulthandler
    ends later, with its process; of a coroutine that shows only the loop.
    """

    @wraps(test)
    async def ending(*arguments: object, **fixtures: object) -> None:
        async with asyncio.timeout(LONGEST_TEST):
            await test(*arguments, **fixtures)

    return ending


class ShareServer:
    """With xdist: the workers use the server that the first process started."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        node.workerinput["server_url"] = node.config.stash[SERVER].url  # type: ignore[attr-defined]


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    if not manager.has_plugin("share-server"):
        manager.register(ShareServer(), "share-server")


@pytest.fixture(scope="session")
def server_url(pytestconfig: pytest.Config) -> str:
    given = getattr(pytestconfig, "workerinput", None)
    return given["server_url"] if given else pytestconfig.stash[SERVER].url


@pytest.fixture(scope="session")
async def template(server_url: str) -> None:
    await databases.make_template(server_url)


@pytest.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """A database that was never migrated."""
    name = await databases.create_empty(server_url)
    yield databases.database_url(server_url, name)
    await databases.drop(server_url, name)


@pytest.fixture
async def own_database_url(server_url: str, template: None) -> AsyncIterator[str]:
    """A migrated database that nobody else uses."""
    name = await databases.clone_template(server_url)
    yield databases.database_url(server_url, name)
    await databases.drop(server_url, name)


@dataclass(frozen=True)
class TokenKind:
    """The settings that change how tokens look, and nothing else."""

    access_token_format: str = "jwt"
    signing_algorithm: str = "ES256"

    def __str__(self) -> str:
        if self.access_token_format == "opaque":
            return "opaque"
        return self.signing_algorithm


EVERY_TOKEN_KIND = [
    TokenKind(),
    TokenKind(access_token_format="opaque"),
    TokenKind(signing_algorithm="RS256"),
    TokenKind(signing_algorithm="EdDSA"),
    TokenKind(signing_algorithm="HS256"),
]
TOKEN_KINDS = {
    "all": EVERY_TOKEN_KIND,
    "formats": EVERY_TOKEN_KIND[:2],
    "default": EVERY_TOKEN_KIND[:1],
    "others": EVERY_TOKEN_KIND[1:],
}
"""By the names that the option `--token-kinds` takes: conftest.py of the project adds it."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked `every_token_kind` runs for each of them; the rest with the default."""
    if "token_kind" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("every_token_kind")
        kinds = TOKEN_KINDS[metafunc.config.getoption("token_kinds") if every else "default"]
        metafunc.parametrize("token_kind", kinds, ids=str, indirect=True, scope="session")


@pytest.fixture(scope="session")
def token_kind(request: pytest.FixtureRequest) -> TokenKind:
    """How tokens are made."""
    kind: TokenKind = request.param
    return kind


@pytest.fixture(scope="session")
async def worker_runtime(
    server_url: str, template: None, token_kind: TokenKind
) -> AsyncIterator[Runtime]:
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    settings = settings_for(url, **asdict(token_kind))
    async with Runtime.open(settings) as runtime, hashing_quickly(runtime) as quick:
        # As a serving process does: so there is a key for ID tokens too.
        await runtime.adopt_signing_algorithm()
        yield quick
    await databases.drop(server_url, name)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def runtime(worker_runtime: Runtime, clock: MovableClock) -> AsyncIterator[Runtime]:
    """A runtime whose commits are savepoints of a transaction that is rolled back."""
    async with worker_runtime.engine.connect() as connection, connection.begin() as transaction:
        sessions = async_sessionmaker(
            connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )
        principals = Principals(sessions, worker_runtime.feed, size=0)
        yield replace(
            worker_runtime,
            database=replace(
                worker_runtime.database,
                sessions=sessions,
                reading=sessions,
                connect=sessions,
                now=clock,
            ),
            throttle=Throttle([SECRET], sessions),
            principals=principals,
            access_tokens=AccessTokens(
                worker_runtime.issuer.jwt, principals, sessions, worker_runtime.feed, size=0
            ),
        )
        await transaction.rollback()


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(runtime) as client:
        yield client


@pytest.fixture
async def own_runtime(
    own_database_url: str, clock: MovableClock, token_kind: TokenKind
) -> AsyncIterator[Runtime]:
    settings = settings_for(own_database_url, **asdict(token_kind))
    async with (
        Runtime.open(settings, now=clock) as runtime,
        following(runtime),
        hashing_quickly(runtime) as quick,
    ):
        yield quick


@pytest.fixture
def environment(own_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("SCOPEGATE_DATABASE_URL", own_database_url)
    monkeypatch.setenv("SCOPEGATE_SECRET_KEYS", SECRET)
    return monkeypatch


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[OwnPostgres]:
    """A server that the test may stop, start and stall."""
    server = await OwnPostgres.start(tmp_path / "home")
    yield server
    await server.stop()


@pytest.fixture
async def own_client(own_runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(own_runtime) as client:
        yield client


def settings_for(database_url: str, **changes: object) -> Settings:
    """Settings of a test, independent of the environment and of any .env file."""
    values = {"database_url": database_url, "secret_keys": SECRET, **changes}
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


def client_of(runtime: Runtime) -> httpx2.AsyncClient:
    """A client of an app that runs on this runtime."""
    app = create_app(runtime.settings)
    app.state.runtime = runtime
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://scopegate.test")


@asynccontextmanager
async def running(feed: ChangeFeed) -> AsyncIterator[None]:
    """Let the feed run meanwhile."""
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        await end([task])


@asynccontextmanager
async def following(runtime: Runtime) -> AsyncIterator[None]:
    """Follow the database's changes meanwhile, as a serving process does."""
    async with running(runtime.feed):
        await until(runtime.feed.fresh)
        yield
