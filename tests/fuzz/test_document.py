"""What OpenAPI's document says is what a client sees: schemathesis asks a real process."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from app.access.authority import OPERATOR
from app.access.grants import grant
from app.identity.clients import create_service
from app.main import create_app
from app.runtime import Runtime
from tests.conftest import SECRET
from tests.factories import PASSWORD, make_user
from tests.processes import serving

CONFIG = Path(__file__).with_name("schemathesis.toml")
AUTHENTICATION = """
[auth.dynamic.openapi.OAuth2PasswordBearer]
path = "/token"
payload_content_type = "application/x-www-form-urlencoded"
extract_selector = "/access_token"
payload = {{ {} }}
"""


async def admins_login(runtime: Runtime) -> dict[str, str]:
    """A login that nothing asked for can end: the only admin can't be put out."""
    async with runtime.unit_of_work() as session:
        user, secret = await create_service(session, username="root", by=OPERATOR)
        await grant(session, user_id=user.id, scope="admin", by=OPERATOR, now=runtime.now())
    credentials = {"client_id": user.username, "client_secret": secret.value}
    return {"grant_type": "client_credentials", **credentials}


async def readers_login(runtime: Runtime) -> dict[str, str]:
    """The login of somebody with few scopes."""
    reader = await make_user(runtime, "read:items", "write:items", "read:users")
    return {"grant_type": "password", "username": reader.username, "password": PASSWORD}


async def nobodys_login(_: Runtime) -> None:
    """No login at all."""


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
    own_database_url: str, own_runtime: Runtime, tmp_path: Path, login: Any
) -> None:
    config, described = tmp_path / "schemathesis.toml", tmp_path / "openapi.json"
    described.write_text(json.dumps(document(own_runtime)))
    payload = await login(own_runtime)
    pairs = ", ".join(f'{name} = "{value}"' for name, value in (payload or {}).items())
    config.write_text(CONFIG.read_text() + (AUTHENTICATION.format(pairs) if pairs else ""))
    with serving(database_url=own_database_url, secret_keys=SECRET) as service:
        schemathesis = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", config),
            *("run", described, "--url", service.url, "--max-examples", "15", "--seed", "1"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        output, _ = await schemathesis.communicate()
    print(output.decode())
    assert schemathesis.returncode == 0, output.decode()
