"""What tests of clients in other languages share: who signs in, and how their programs are run."""

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.conftest import SECRET
from tests.support import databases
from tests.support.browsing import CALLBACK
from tests.support.factories import PASSWORD
from tests.support.processes import command

# With characters that a client has to encode, and the service to decode.
SERVICE = "invoices+api@example.com/50%"
SERVICE_SCOPES = {"introspect", "read:items"}
PERSON = {"username": "Alice", "password": PASSWORD}
PERSON_SCOPES = {"read:items", "write:items"}
WEB_APP = "web-app"
AFTER_LOGOUT = "https://app.example/bye"


@dataclass(frozen=True)
class Known:
    """A database with a person and a service account, and the settings of a service on it."""

    settings: dict[str, Any]
    person_id: str
    service_id: str
    service_secret: str


@asynccontextmanager
async def known(server_url: str) -> AsyncIterator[Known]:
    """The person and the service account, in a database of their own."""
    name = await databases.clone_template(server_url)
    url = databases.database_url(server_url, name)
    settings: dict[str, Any] = {"database_url": url, "secret_keys": SECRET}
    person = await _create(settings, PERSON["username"], *PERSON_SCOPES)
    service = await _create(settings, SERVICE, *SERVICE_SCOPES, service=True)
    redirects = ["--redirect-uri", CALLBACK, "--post-logout-redirect-uri", AFTER_LOGOUT]
    await command("client", "create", "An app", "--client-id", WEB_APP, *redirects, **settings)
    yield Known(settings, person["id"], service["id"], service["client_secret"])
    await databases.drop(server_url, name)


async def _create(
    settings: dict[str, Any], name: str, *scopes: str, service: bool = False
) -> dict[str, Any]:
    """A new user or service account, as the command that makes it prints it."""
    arguments = ["user", "create", name, "--json"]
    for scope in scopes:
        arguments += ["--scope", scope]
    if service:
        arguments.append("--service")
    created: dict[str, Any] = json.loads(await command(*arguments, stdin=PASSWORD, **settings))
    return created


async def run(
    *words: str | Path, cwd: Path, given: Any = None, env: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """The exit code, standard output and standard error of a program."""
    process = await asyncio.create_subprocess_exec(
        *words, cwd=cwd, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=os.environ | (env or {})
    )
    out, err = await process.communicate(json.dumps(given).encode())
    return process.returncode, out.decode(), err.decode()


def need(*programs: str) -> None:
    """Skip, and say what is missing, where one of these is not installed."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        cant_run(f"{' and '.join(missing)} not installed")


def cant_run(reason: str) -> NoReturn:
    """Skip on a developer's machine; in CI these tests must run."""
    if os.environ.get("CI"):
        pytest.fail(f"These clients can't be tested: {reason}")
    pytest.skip(f"these clients can't be tested: {reason.splitlines()[0]}")
