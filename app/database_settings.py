"""Settings of the database: where it is, and how long to wait for it."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from app.env_file import EnvFileSettings
from app.setting_types import Delay, Seconds


class DatabaseSettings(EnvFileSettings):
    """What an operator can choose about the database."""

    database_url: Annotated[
        SecretStr | None, Field(description="Postgres 15 or later: `postgresql://user@host/name`.")
    ] = None
    database_password: Annotated[
        SecretStr | None, Field(description="The password, when the URL has none.")
    ] = None
    database_password_file: Path | None = None
    database_pool_size: Annotated[
        int, Field(ge=1, description="Connections that one process keeps.")
    ] = 10
    database_pool_timeout: Annotated[
        Seconds, Field(description="Seconds to wait for a connection to be free; then: 503.")
    ] = timedelta(seconds=2)
    database_connect_timeout: Annotated[
        Seconds, Field(description="Seconds in which a new connection must be made.")
    ] = timedelta(seconds=2)
    database_statement_timeout: Annotated[
        Seconds, Field(description="Seconds that one statement may take.")
    ] = timedelta(seconds=5)
    database_wait: Annotated[
        Delay, Field(description="Seconds that `serve` waits for a database that takes writes.")
    ] = timedelta(minutes=1)
    listen_database_url: Annotated[
        SecretStr | None,
        Field(
            description="To be set when `SCOPEGATE_DATABASE_URL` leads to a pooler like PgBouncer: "
            "a URL that leads directly to Postgres, where to listen for changes."
        ),
    ] = None
