"""What one process holds: built once, by the web app, the commands and the tests alike."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from cryptography.fernet import MultiFernet
from sqlalchemy import URL, QueuePool, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from app.access.client_documents import ClientDocuments
from app.access.letters import Letters
from app.access.principals import Principals
from app.access.scopes import SHIPPED, registered_of
from app.db.beats import NoStandby
from app.db.changes import ChangeFeed
from app.db.clock import DatabaseClock, set_clock
from app.db.engine import connect_apart, open_engine
from app.db.primary import Primary
from app.db.schema import current_revision, is_behind, refuse_foreign
from app.db.servers import ServerReplaced, TakesNoWrites
from app.db.url import configured_url
from app.db.work import ActorT, Clock, Database, Work
from app.errors import ConfigurationError
from app.events.streams import Streams
from app.identity.login import Guard
from app.identity.passwords import PasswordHasher
from app.identity.throttle import Throttle
from app.mail.outbox import Composer, Mailer
from app.service_secrets import secret_keys_of
from app.settings import Settings
from app.tokens.id_tokens import IdTokens
from app.tokens.issuing import Issuer
from app.tokens.jwt import JwtFormat
from app.tokens.keyring import Keyring
from app.tokens.keys import (
    THE_SERVICE,
    UnreadableKey,
    adopt_algorithm,
    ensure_first_key,
    ensure_id_token_key,
    key_cipher,
)
from app.tokens.page_tokens import PageTokens
from app.tokens.refresh import Grace, RefreshTokens
from app.tokens.verification import AccessTokens


@dataclass(frozen=True, slots=True)
class Runtime:
    """The way to the database, what guards logins, the keys, how tokens are made and verified."""

    settings: Settings
    engine: AsyncEngine
    database: Database
    hasher: PasswordHasher
    throttle: Throttle
    cipher: MultiFernet
    feed: ChangeFeed
    keyring: Keyring
    issuer: Issuer
    principals: Principals
    access_tokens: AccessTokens
    streams: Streams
    page_tokens: PageTokens
    client_documents: ClientDocuments | None
    mailer: Mailer

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, *, now: Clock | None = None, recovering: bool = False
    ) -> AsyncIterator["Runtime"]:
        """A runtime on a migrated database; all that it holds is closed at the end.

        The time is the database's, unless another clock is given. Until the change feed is
        followed, the database is asked each time. With `recovering`, it may have gone back.
        Raises ConfigurationError when the database is not migrated, or its keys were made under
        another secret.
        """
        async with AsyncExitStack() as stack:
            primary = Primary(
                patience=settings.revocation_bound.total_seconds() / 5, recovering=recovering
            )
            engine = await stack.enter_async_context(open_engine(settings, primary))
            clock = DatabaseClock()
            await _require_migrated(engine, clock)
            secret_keys = secret_keys_of(settings)
            runtime = assemble(settings, engine, primary, clock, secret_keys=secret_keys, now=now)
            stack.callback(runtime.hasher.close)
            stack.push_async_callback(runtime.principals.close)
            await runtime.load_keys()
            yield runtime

    async def load_keys(self) -> None:
        """Read the keys; make the first one, if there is none. Raises UnreadableKey."""
        async with self.work(THE_SERVICE) as work:
            await ensure_first_key(work, self.cipher, algorithm=self.settings.signing_algorithm)
        await self.keyring.load()
        if self.keyring.unreadable:
            raise UnreadableKey

    async def adopt_signing_algorithm(self) -> None:
        """Rotate to a key of the algorithm that is set, if there is none; see to that of ID tokens.

        Only a serving process does this: a command may be run with other settings than the
        service, and must not change how it signs.
        """
        async with self.work(THE_SERVICE) as work:
            await adopt_algorithm(
                work,
                self.cipher,
                algorithm=self.settings.signing_algorithm,
                publication=self.settings.key_publication,
                overlap=self.key_overlap,
            )
            await ensure_id_token_key(work, self.cipher)
        await self.keyring.load()

    @property
    def pool(self) -> QueuePool:
        """The connections to the database."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return pool

    @property
    def key_overlap(self) -> timedelta:
        """How long an old key must verify after a new one signs.

        As long as a token lives, and as long as some replica may not have heard of the new one.
        """
        return self.issuer.access_token_lifetime + self.settings.revocation_bound

    def work(
        self, actor: ActorT, *, at_once: bool = False
    ) -> AbstractAsyncContextManager[Work[ActorT]]:
        """Return a unit of work in this actor's name, to write what is audited or published."""
        return self.database.work(actor, at_once=at_once)

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Database sessions with transactions."""
        return self.database.sessions

    @property
    def reading(self) -> async_sessionmaker[AsyncSession]:
        """Database sessions for reading, without transactions."""
        return self.database.reading

    @property
    def now(self) -> Clock:
        """The clock."""
        return self.database.now

    @property
    def guard(self) -> Guard:
        """What passwords are checked with."""
        return Guard(self.database, self.hasher, self.throttle)

    @property
    def letters(self) -> Letters:
        """What sends the mails about accounts."""
        return Letters(self.mailer, self.settings.token_issuer)

    async def schema_is_current(self) -> bool:
        """Whether the database has all that this code needs. Raises when it does not answer."""
        async with self.engine.connect() as connection:
            return not is_behind(await current_revision(connection))

    async def missing_scopes(self) -> list[str]:
        """Return the scopes that this version ships and `scopegate migrate` has yet to add."""
        async with self.reading() as db:
            return sorted(SHIPPED.keys() - await registered_of(db, SHIPPED.keys()))

    async def takes_no_writes(self) -> str | None:
        """Return why the database commits nothing; None when it does, as far as is known.

        The change feed's beats are writes. Only when none succeeded lately, the database is asked.
        """
        if self.feed.writes():
            return None
        if isinstance(self.feed.failure, NoStandby | TakesNoWrites | ServerReplaced):
            return str(self.feed.failure)
        async with self.engine.connect() as connection:
            read_only = await connection.scalar(text("SHOW transaction_read_only"))
        return "it is a standby or read-only" if read_only == "on" else None


async def _require_migrated(engine: AsyncEngine, clock: DatabaseClock) -> None:
    """Set the clock by a database that is migrated. Raises ConfigurationError for another one."""
    async with engine.connect() as connection:
        await set_clock(clock, connection)
        await connection.run_sync(refuse_foreign)
        if is_behind(await current_revision(connection)):
            raise ConfigurationError(
                "The database is not migrated to this version: run scopegate migrate first"
            )


def assemble(
    settings: Settings,
    engine: AsyncEngine,
    primary: Primary,
    clock: DatabaseClock,
    *,
    secret_keys: list[str],
    now: Clock | None = None,
) -> Runtime:
    """Return a runtime that has asked the database nothing yet, on this way to it."""
    feed = _feed(settings, engine, primary, clock)
    database = Database.of(engine, now or clock, feed.publish, secret_keys)
    cipher = key_cipher(secret_keys)
    keyring = Keyring(database.reading, cipher, feed, algorithm=settings.signing_algorithm)
    issuer = _issuer(settings, keyring, secret_keys, feed)
    principals = Principals(database.connect, feed, size=settings.cache_size)
    return Runtime(
        settings=settings,
        engine=engine,
        database=database,
        hasher=PasswordHasher(threads=settings.hash_threads, queue=settings.hash_queue),
        throttle=Throttle(secret_keys, database.connect),
        cipher=cipher,
        feed=feed,
        keyring=keyring,
        issuer=issuer,
        principals=principals,
        access_tokens=AccessTokens(
            issuer.jwt, principals, database.connect, feed, size=settings.cache_size
        ),
        streams=Streams(feed, clock, issuer=settings.token_issuer, limit=settings.max_streams),
        page_tokens=PageTokens(secret_keys),
        client_documents=ClientDocuments.of(settings),
        mailer=_mailer(settings, secret_keys),
    )


def _mailer(settings: Settings, secret_keys: list[str]) -> Mailer:
    composers: dict[str, Composer] = {}
    mailer = Mailer.of(settings, secret_keys, composers)
    composers.update(Letters(mailer, settings.token_issuer).composers())
    return mailer


def _feed(
    settings: Settings, engine: AsyncEngine, primary: Primary, clock: DatabaseClock
) -> ChangeFeed:
    """The change feed, not followed yet, on a way to Postgres that need not be the engine's."""
    listening, writing = listen_url(engine, settings), engine.url
    return ChangeFeed(
        primary,
        to_listen=partial(connect_apart, listening, settings, primary.find, purpose=" changes"),
        to_write=partial(connect_apart, writing, settings, primary.survey, purpose=" beat"),
        bound=settings.revocation_bound.total_seconds(),
        clock=clock,
    )


def listen_url(engine: AsyncEngine, settings: Settings) -> URL:
    """Where notifications are heard: where the engine leads, unless there is a setting for it."""
    if settings.listen_database_url is None:
        return engine.url
    return configured_url(
        settings.listen_database_url, settings, setting="SCOPEGATE_LISTEN_DATABASE_URL"
    )


def _issuer(
    settings: Settings, keyring: Keyring, secret_keys: list[str], feed: ChangeFeed
) -> Issuer:
    """How tokens are made, by these settings."""
    return Issuer(
        jwt=JwtFormat(keyring, settings.token_issuer, settings.token_audience),
        id_tokens=IdTokens(keyring, settings.token_issuer),
        refresh_tokens=RefreshTokens(secret_keys, bound=settings.revocation_bound),
        opaque=settings.access_token_format == "opaque",
        access_token_lifetime=settings.access_token_lifetime,
        session_lifetime=settings.session_lifetime,
        session_idle_timeout=settings.session_idle_timeout,
        refresh_grace=Grace(
            settings.refresh_grace,
            strict=settings.refresh_grace_strict,
            outage=feed.outage,
        ),
        max_sessions=settings.max_sessions,
    )
