"""A process that serves: killed, stopped for a while, and started again under another clock."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.support.processes import SERVE, Service, serving

# Whatever asks this process for the time of day gets it wrong by so much. (Read at its start.)
WRONG_CLOCK = """
import datetime, os, time
off = float(os.environ["CLOCK_IS_OFF_BY"])
now, real = time.time, datetime.datetime
class Wrong(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=off)
time.time, datetime.datetime = lambda: now() + off, Wrong
"""


class ServingProcess:
    """A replica, or what another command serves with these settings."""

    def __init__(
        self, folder: Path, settings: dict[str, Any], command: Sequence[str] = SERVE
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._command = command
        self._served: AbstractContextManager[Service] | None = None
        self.service: Service | None = None

    @property
    def url(self) -> str:
        """Where it serves, from its first start on."""
        assert self.service is not None
        return self.service.url

    async def start(self, *, clock_off_by: float = 0.0) -> None:
        """Start it, and wait until it is ready."""
        command = list(self._command)
        if clock_off_by:
            (self._folder / "sitecustomize.py").write_text(WRONG_CLOCK)
            wrong = (f"PYTHONPATH={self._folder}", f"CLOCK_IS_OFF_BY={clock_off_by}")
            command = ["env", *wrong, *command]
        self._served = serving(command, **self._settings)
        self.service = await asyncio.to_thread(self._served.__enter__)

    async def kill(self) -> None:
        """`kill -9`. Raises AssertionError when it had written a stack trace."""
        assert self.service is not None
        self.service.kill()
        await self.stop()

    async def stand_still(self, seconds: float) -> None:
        """Stop it by SIGSTOP for so long: its connections stay open, and silent."""
        assert self.service is not None
        group = self.service.process.pid
        os.killpg(group, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.killpg(group, signal.SIGCONT)

    async def stop(self) -> None:
        """End it, if it still runs. Raises AssertionError when it had written a stack trace."""
        served, self._served = self._served, None
        if served is not None:
            await asyncio.to_thread(served.__exit__, None, None, None)
