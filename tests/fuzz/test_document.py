"""What OpenAPI's document says is what a client sees: schemathesis asks a real process."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.access.grants import grant
from app.identity.account_writes import create_service
from app.main import create_app
from app.runtime import Runtime
from tests.conftest import SECRET
from tests.fuzz.budget import LONG
from tests.fuzz.conftest import PATIENT
from tests.support.factories import OPERATOR, PASSWORD, make_user
from tests.support.processes import serving

# Measured, it would take minutes, and it runs nothing that the other tests do not.
pytestmark = [pytest.mark.system, pytest.mark.long]
CONFIG = Path(__file__).with_name("schemathesis.toml")
EVERY_PHASE = ("examples", "coverage", "fuzzing", "stateful")
DRAWN = ("examples", "fuzzing", "stateful")
"""Without what is the same each time, and refused for want of a scope before it is looked at."""
Login = Callable[[Runtime], Awaitable[dict[str, str]]]
AUTHENTICATION = """
[auth.dynamic.openapi.OAuth2PasswordBearer]
path = "/token"
payload_content_type = "application/x-www-form-urlencoded"
extract_selector = "/access_token"
payload = {{ {} }}
"""


async def admins_login(runtime: Runtime) -> dict[str, str]:
    """A login that nothing asked for can end: the only admin can't be put out."""
    async with runtime.work(OPERATOR) as work:
        user, secret = await create_service(work, username="root")
        await grant(work, user.id, "admin")
    credentials = {"client_id": user.username, "client_secret": secret.value}
    return {"grant_type": "client_credentials", **credentials}


async def readers_login(runtime: Runtime) -> dict[str, str]:
    """The login of somebody with few scopes.

    No example of the document has their password as the current one: it would be changed.
    """
    reader = await make_user(runtime, "read:items", "write:items", "read:users")
    return {"grant_type": "password", "username": reader.username, "password": PASSWORD}


async def nobodys_login(_: Runtime) -> dict[str, str]:
    """No login at all."""
    return {}


def document(runtime: Runtime) -> dict[str, Any]:
    """The service's own, in which schemathesis sees that an OAuth2 access token is a bearer token.

    Otherwise its checks of authentication would leave out every operation.
    """
    document = create_app(runtime.settings).openapi()
    document["components"]["securitySchemes"]["OAuth2PasswordBearer"] = {
        "type": "http",
        "scheme": "bearer",
    }
    return document


@pytest.mark.parametrize("login", [admins_login, readers_login, nobodys_login])
async def test_the_document_is_true(
    own_database_url: str,
    own_runtime: Runtime,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    login: Login,
) -> None:
    seed = pytestconfig.getoption("--hypothesis-seed") or 1
    config, described = tmp_path / "schemathesis.toml", tmp_path / "openapi.json"
    described.write_text(json.dumps(document(own_runtime)))
    payload = await login(own_runtime)
    pairs = ", ".join(f'{name} = "{value}"' for name, value in payload.items())
    config.write_text(CONFIG.read_text() + (AUTHENTICATION.format(pairs) if pairs else ""))
    # Wrong passwords come from elsewhere than the login: they must not throttle it.
    settings: dict[str, Any] = {"database_url": own_database_url, "secret_keys": SECRET}
    with serving(**settings, **PATIENT, trusted_proxies="127.0.0.1") as service:
        schemathesis = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", config),
            *("run", described, "--url", service.url, "-H", "X-Forwarded-For: 203.0.113.7"),
            *("--seed", str(seed), "--max-examples", "60" if LONG else "6"),
            *("--phases", ",".join(EVERY_PHASE if login is admins_login else DRAWN)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        output, _ = await schemathesis.communicate()
    assert schemathesis.returncode == 0, output.decode()
