"""What a runtime hears of changes."""

import uuid

from sqlalchemy import text

from app.db.changes import Change
from app.runtime import Runtime
from tests.support.processes import until


class Heard(list[Change]):
    """What a runtime's feed hears, from the moment when it is made."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime
        runtime.feed.subscribe(self.append)

    async def up_to_now(self) -> list[Change]:
        """Return all that was heard of changes until now, except for the mark that this makes."""
        session_id = uuid.uuid4()
        mark = Change("session", session_id)
        notify = text("SELECT pg_notify('scopegate', :payload)")
        async with self._runtime.engine.begin() as connection:
            await connection.execute(notify, {"payload": f"session {session_id}"})
        await until(lambda: mark in self)
        found = self[: self.index(mark)]
        self.clear()
        return found
