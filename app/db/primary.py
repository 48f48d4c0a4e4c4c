"""Finding the server that takes the writes, and never going back to one that was replaced."""

from typing import Any
from weakref import WeakKeyDictionary

import asyncpg

UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
NOT_TOLD = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
)
"""What a Postgres raises that was made to replicate in ways of its own, and does not tell."""
# A promotion begins a new timeline. A standby refuses `pg_current_wal_lsn`.
WHICH = """
SELECT system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
FROM pg_control_system()
"""


class ServerReplaced(ConnectionError):
    """Another server was promoted in this one's place."""

    def __init__(self) -> None:
        super().__init__("a server that was replaced still takes writes: take it out of service")


class TakesNoWrites(ConnectionError):
    """The server is a standby, or read-only."""

    def __init__(self) -> None:
        super().__init__("the server takes no writes, as a standby does: lead to the primary")


class Primary:
    """Which server takes the writes, as far as this process has seen.

    One that crashed, and comes back after its standby was promoted, takes writes too: nobody
    replicates them, and it knows of no revocation since. So once a process has seen the promoted
    server, it refuses the older one.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, Any] | None = None
        self._newest: dict[int, int] = {}
        """The newest timeline of each cluster: pg_upgrade, say, makes another cluster."""
        self._seen: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()

    async def connect(self, *, host: Any = None, port: Any = None, **how: Any) -> Any:
        """A connection of asyncpg's to the first host that takes writes and was not replaced.

        Each host has the `timeout` to itself, so that one which swallows every byte keeps nobody
        from the next; the host that served last comes first. Raises what the last one raised.
        """
        hosts = list(zip(host, port, strict=True)) if isinstance(host, list) else [(host, port)]
        hosts.sort(key=lambda each: each != self._last)
        failure: Exception | None = None
        for each in hosts:
            try:
                connection = await self._connect_to(*each, **how)
            except UNREACHABLE as error:
                failure = error
            else:
                self._last = each
                return connection
        assert failure is not None
        raise failure

    def was_replaced(self, connection: Any) -> bool:
        """Whether a newer server was seen since this connection was made."""
        cluster, timeline = self._seen.get(connection, (0, 0))
        return timeline < self._newest.get(cluster, 0)

    async def _connect_to(self, host: Any, port: Any, **how: Any) -> Any:
        how.setdefault("target_session_attrs", "read-write")
        try:
            connection = await asyncpg.connect(host=host, port=port, **how)
        except asyncpg.TargetServerAttributeNotMatched:
            raise TakesNoWrites from None
        try:
            await self._recognise(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _recognise(self, connection: Any) -> None:
        """Note which server it leads to. Raises ServerReplaced."""
        try:
            # In a transaction, for the sake of poolers.
            async with connection.transaction():
                cluster, timeline = await connection.fetchrow(WHICH)
        except NOT_TOLD:
            return
        self._seen[connection] = cluster, timeline
        if self.was_replaced(connection):
            raise ServerReplaced
        self._newest[cluster] = timeline
