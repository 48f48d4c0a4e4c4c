"""The second service: another process, which checks Scopegate's tokens by scopegate-client."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import httpx2
from fastapi import FastAPI, Security

from scopegate_client import Principal, Scopegate, State
from tests.chaos.serving_process import ServingProcess
from tests.support.processes import PATIENCE, free_port

NAME = "second-service"
"""Of its service account."""
PAUSE = 0.05
"""Seconds between two questions whether it lets a token in."""


def app_from_environment() -> FastAPI:
    """Return the service, whose paths ask for the same scopes as Scopegate's own."""
    # Its bound is the default, which is greater: it must take Scopegate's.
    scopegate = Scopegate.from_env()
    app = FastAPI(lifespan=scopegate.lifespan)

    @app.get("/users/me")
    async def me(principal: Annotated[Principal, Security(scopegate.principal)]) -> str:
        return principal.subject

    @app.get("/items")
    async def items(
        principal: Annotated[Principal, Security(scopegate.principal, scopes=["read:items"])],
    ) -> str:
        return principal.subject

    @app.get("/state")
    async def state() -> State:
        return scopegate.state

    @app.get("/health/ready")
    async def ready() -> None:
        return None

    return app


class SecondService(ServingProcess):
    """Its process. `token` is one that nothing is taken from."""

    def __init__(
        self, folder: Path, asking: httpx2.AsyncClient, *, issuer: str, secret: str, token: str
    ) -> None:
        port = free_port()
        settings = {"port": port, "issuer": issuer, "client_id": NAME, "client_secret": secret}
        command = [sys.executable, "-m", "uvicorn", "--factory", f"{__name__}:app_from_environment"]
        command += ["--port", str(port), "--log-level", "warning"]
        super().__init__(folder, settings, command)
        self._asking = asking
        self._headers = {"Authorization": f"Bearer {token}"}

    async def ask(self) -> int:
        """Return the status that the good token gets."""
        answer = await self._asking.get(f"{self.url}/users/me", headers=self._headers)
        return answer.status_code

    async def until_fresh(self, *, fresh: bool = True) -> None:
        """Wait until it checks tokens by what it has heard, or until it does not any more."""
        async with asyncio.timeout(PATIENCE):
            while (await self._asking.get(f"{self.url}/state")).json()["fresh"] != fresh:
                await asyncio.sleep(PAUSE)

    async def until_answers(self, status: int) -> None:
        """Wait until the good token gets this status."""
        async with asyncio.timeout(PATIENCE):
            while await self.ask() != status:
                await asyncio.sleep(PAUSE)
