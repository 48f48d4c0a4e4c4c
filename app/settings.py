"""Settings: `SCOPEGATE_*` in the environment or in `.env`, checked before anything starts."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from app.account_settings import AccountSettings
from app.database_settings import DatabaseSettings
from app.env_file import PREFIX
from app.mail_settings import MailSettings
from app.page_settings import PageSettings
from app.setting_types import (
    HOW_TO_MAKE_A_SECRET,
    Audience,
    Delay,
    Hosts,
    Issuer,
    ListenHost,
    Networks,
    Origins,
    Seconds,
    Secrets,
    WholeDelay,
    WholeSeconds,
    is_any_address,
    secrets_from_files,
    split_secrets,
)

Algorithm = Literal["ES256", "RS256", "EdDSA", "HS256"]

PACKAGE = Path(__file__).resolve().parent
PROJECT = PACKAGE.parent
# A wheel has the migrations inside the package, and a checkout has them beside it.
INSTALLED = (PACKAGE / "migrations").is_dir()
MIGRATIONS = (PACKAGE if INSTALLED else PROJECT) / "migrations"
SECRETS_FROM_FILES = (
    *("database_password", "secret_keys", "admin_password", "metrics_token"),
    "smtp_url",
)


class Settings(MailSettings, DatabaseSettings, PageSettings, AccountSettings):
    """What an operator can choose. A `*_FILE` setting names a file to read the value from."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    environment: Annotated[
        Literal["development", "production"],
        Field(
            description="`development` makes its own secret and, without a database URL, its own "
            "Postgres under `SCOPEGATE_HOME`; `production` refuses to start without both."
        ),
    ] = "development"
    host: Annotated[
        ListenHost, Field(description="The address to listen on; `::` is all of IPv6 and IPv4.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="The port to listen on.")] = 8000
    home: Annotated[
        Path,
        Field(
            description="Where development keeps its secret and its Postgres. Installed from a "
            "wheel: `.scopegate` in the current folder."
        ),
    ] = (Path() if INSTALLED else PROJECT) / ".scopegate"
    secret_keys: Annotated[
        Secrets | None,
        Field(
            description="The service's secret, at least 32 characters; several with commas between "
            "them: the first encrypts, all decrypt."
        ),
    ] = None
    secret_keys_file: Path | None = None
    admin_password: Annotated[
        SecretStr | None,
        Field(description="The first admin's password; generated and printed once when unset."),
    ] = None
    admin_password_file: Path | None = None
    issuer: Annotated[
        Issuer | None,
        Field(description="`iss` of every token; by default the URL served at, never `Host`."),
    ] = None
    audience: Annotated[
        Audience | None, Field(description="`aud` of every token; by default the issuer.")
    ] = None
    signing_algorithm: Annotated[
        Algorithm, Field(description="`ES256`, `RS256`, `EdDSA` or `HS256`.")
    ] = "ES256"
    access_token_lifetime: Annotated[
        WholeSeconds,
        Field(le=timedelta(days=1), description="Seconds that an access token lives."),
    ] = timedelta(minutes=15)
    access_token_format: Annotated[
        Literal["jwt", "opaque"],
        Field(description="`jwt`, or `opaque`: random strings that only this service can read."),
    ] = "jwt"
    session_lifetime: Annotated[
        WholeSeconds,
        Field(ge=timedelta(minutes=1), description="Seconds after which a login ends in any case."),
    ] = timedelta(days=30)
    session_idle_timeout: Annotated[
        WholeSeconds,
        Field(ge=timedelta(minutes=1), description="Seconds without a refresh; then a login ends."),
    ] = timedelta(days=14)
    max_sessions: Annotated[
        int,
        Field(
            ge=1,
            description="Live sessions of a person: past it, the one that expires first ends. "
            "Service accounts have any number.",
        ),
    ] = 1000
    max_token_lifetime: Annotated[
        WholeSeconds,
        Field(
            ge=timedelta(days=1),
            description="Seconds that a personal access token may live at most.",
        ),
    ] = timedelta(days=365)
    refresh_grace: Annotated[
        WholeDelay,
        Field(
            le=timedelta(minutes=10),
            description="Seconds in which a used refresh token gets its successor again, as long "
            "as that is unused.",
        ),
    ] = timedelta(minutes=1)
    refresh_grace_strict: Annotated[
        bool,
        Field(
            description="`true`: a refresh token that is used again within the grace, from another "
            "network and by another user agent, ends the session; `false`: it is only audited."
        ),
    ] = True
    key_publication: Annotated[
        WholeDelay,
        Field(description="Seconds that a new signing key is published before it signs."),
    ] = timedelta(minutes=5)
    revocation_bound: Annotated[
        Seconds,
        Field(
            le=timedelta(hours=1),
            description="Seconds after which a revocation counts on every replica at the latest; "
            "it mostly takes milliseconds.",
        ),
    ] = timedelta(seconds=5)
    cache_size: Annotated[
        int,
        Field(
            ge=0,
            description="Sessions, and tokens, that a process remembers; `0`: none, every request "
            "asks the database.",
        ),
    ] = 20_000
    housekeeping_interval: Annotated[
        Seconds, Field(description="Seconds between clearing away what has expired.")
    ] = timedelta(minutes=1)
    ended_sessions_kept: Annotated[
        WholeDelay, Field(description="Seconds that a session's row is kept after its end.")
    ] = timedelta(days=7)
    audit_kept: Annotated[
        WholeSeconds,
        Field(
            # Postgres refuses to remove younger ones: see migration 0004.
            ge=timedelta(days=30),
            description="Seconds that an audit entry is kept: 30 days at least.",
        ),
    ] = timedelta(days=365)
    password_grant: Annotated[
        bool, Field(description="`false` switches the password grant off (RFC 9700 §2.4).")
    ] = True
    hash_threads: Annotated[
        int, Field(ge=1, le=64, description="Password hashes at once, 19 MiB of memory each.")
    ] = 2
    hash_queue: Annotated[
        int, Field(ge=1, description="Logins that may wait for a thread; past it: 503.")
    ] = 64
    trusted_proxies: Annotated[
        Networks,
        Field(
            description="Proxies whose `X-Forwarded-For` tells where a request is from: addresses "
            "or networks, with commas between them."
        ),
    ] = ()
    metrics_token: Annotated[
        Secrets | None,
        Field(
            description="The bearer token that Prometheus presents for `GET /metrics`; unset: "
            "metrics are off."
        ),
    ] = None
    metrics_token_file: Path | None = None
    max_body_bytes: Annotated[
        int, Field(ge=4096, description="The largest request body; past it: 413.")
    ] = 262_144
    max_connections: Annotated[
        int, Field(ge=1, description="Connections that one process serves; past it: 503.")
    ] = 500
    max_streams: Annotated[
        int, Field(ge=0, description="Event streams that one process has open; past it: 503.")
    ] = 100
    request_timeout: Annotated[
        Seconds,
        Field(
            description="Seconds in which a request must have come in whole, and a client must "
            "take some of its answer; then its connection is closed."
        ),
    ] = timedelta(seconds=10)
    keep_alive_timeout: Annotated[
        WholeSeconds,
        Field(
            description="Seconds that a connection is kept for its next request: behind a proxy "
            "that keeps connections, more than the proxy does.",
        ),
    ] = timedelta(seconds=5)
    shutdown_delay: Annotated[
        Delay,
        Field(
            description="Seconds to keep serving after SIGTERM while `/health/ready` says 503, "
            "so that load balancers notice: 10, say, on Kubernetes."
        ),
    ] = timedelta(0)
    shutdown_timeout: Annotated[
        WholeSeconds,
        Field(description="Seconds that requests under way then have to be answered; then: 503."),
    ] = timedelta(seconds=20)
    hsts: Annotated[
        WholeDelay,
        Field(
            description="Seconds for which browsers shall ask this host by HTTPS only "
            "(`Strict-Transport-Security`); `0`: no word of it."
        ),
    ] = timedelta(0)
    cors_origins: Annotated[
        Origins,
        Field(
            description="Origins whose pages may call the API from a browser, with commas "
            "between them: `https://app.example`, `capacitor://localhost`. Never `*`."
        ),
    ] = ()
    trusted_hosts: Annotated[
        Hosts,
        Field(
            description="Names that a request's `Host` must be one of (`auth.example`, "
            "`*.example`), `/health/…` and `/metrics` excepted; unset: any, it is never "
            "relied on."
        ),
    ] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, object]) -> dict[str, object]:
        return values | secrets_from_files(values, SECRETS_FROM_FILES)

    @model_validator(mode="after")
    def _refuse_to_guess_in_production(self) -> Self:
        if self.environment == "production":
            if not split_secrets(self.secret_keys):
                raise ValueError(
                    f"SCOPEGATE_SECRET_KEYS is not set, production needs it; {HOW_TO_MAKE_A_SECRET}"
                )
            if self.database_url is None:
                raise ValueError(
                    "SCOPEGATE_DATABASE_URL is not set, production needs it: "
                    "postgresql://user:password@host/name"
                )
            if self.sign_up == "open" and self.smtp_url is None:
                raise ValueError(
                    "SCOPEGATE_SIGN_UP=open needs SCOPEGATE_SMTP_URL: an account works only once "
                    "its address is confirmed by a link in a mail"
                )
        return self

    @model_validator(mode="after")
    def _require_a_sender(self) -> Self:
        if self.smtp_url and not self.mail_from:
            raise ValueError(
                "SCOPEGATE_MAIL_FROM is not set, SCOPEGATE_SMTP_URL needs it: no-reply@shop.example"
            )
        return self

    @property
    def token_issuer(self) -> str:
        """`iss`: as set, else the URL served at."""
        if self.issuer:
            return self.issuer
        host = "localhost" if is_any_address(self.host) else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def token_audience(self) -> str:
        """`aud`: as set, else the issuer."""
        return self.audience or self.token_issuer
