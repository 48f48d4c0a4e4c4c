"""A Postgres server for the tests: the one named, else Docker's, else the embedded one."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException
from sqlalchemy import text
from testcontainers.community.postgres import PostgresContainer

from app.db.embedded import EmbeddedPostgres
from tests.support.databases import administering

IMAGE = "postgres:17-alpine"


@dataclass(frozen=True)
class Server:
    """Where the tests' Postgres is, what it is, and how to be done with it."""

    url: str
    name: str
    stop: Callable[[], object]


def start_server() -> Server:
    """The server to test on; SCOPEGATE_TEST_POSTGRES (`docker`, `embedded`) insists on one kind."""
    if url := os.environ.get("SCOPEGATE_TEST_DATABASE_URL"):
        return Server(url, "SCOPEGATE_TEST_DATABASE_URL", lambda: None)
    wanted = os.environ.get("SCOPEGATE_TEST_POSTGRES")
    if wanted == "docker" or (wanted is None and docker_answers()):
        return _start_container()
    return _start_embedded()


def docker_answers() -> bool:
    """Whether a Docker engine can be used here."""
    try:
        client = docker.from_env()
    except DockerException:
        return False
    client.close()
    return True


def _start_container() -> Server:
    container = PostgresContainer(IMAGE, driver="asyncpg").with_command("-c fsync=off")
    container.start()
    return Server(container.get_connection_url(), f"Docker's {IMAGE}", container.stop)


async def _forget_durability(url: str) -> None:
    """Write nothing through to the disk: what is in this server is gone after the tests anyway."""
    async with administering(url) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            await connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        await connection.execute(text("SELECT pg_reload_conf()"))


def _start_embedded() -> Server:
    home = Path(tempfile.mkdtemp(prefix="scopegate-test-"))
    embedded = EmbeddedPostgres.start(home)
    asyncio.run(_forget_durability(embedded.url))

    def stop() -> None:
        embedded.release()
        shutil.rmtree(home)

    return Server(embedded.url, "the embedded Postgres", stop)
