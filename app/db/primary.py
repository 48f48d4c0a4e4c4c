"""Find the server that takes the writes, and never go back to one that was replaced."""

import asyncio
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg

from app.db.servers import (
    IDENTIFY,
    IDENTIFY_MINIMAL,
    IDENTITY_NOT_SUPPORTED,
    Answer,
    Server,
    ServerReplaced,
    TakesNoWrites,
    identify,
)
from app.db.timelines import note_lost

LONGEST_LIFE = 600.0
"""Seconds after which a connection that is kept is replaced, though nothing is wrong with it.

So none leads for ever to where the URL led once.
"""

UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
PROMOTED_WITHIN = 0.25
"""Seconds after which a server that took no writes is asked again: it may have been promoted."""
Host = tuple[Any, Any]
"""A host of the URL with its port."""


class Primary:
    """The server that takes the writes, as far as this process has seen.

    An old primary that still runs after its standby was promoted may take writes too, but nothing
    replicates them, and it knows of no revocation since. So the newest timeline of a cluster
    counts, whatever the order of the hosts. Between clusters no order is known: there the URL
    decides, by where it leads now and by the order of its hosts.

    A host that says nothing delays this by `patience` seconds at most. With `recovering`, a server
    is taken that lost a newer timeline.
    """

    def __init__(self, *, patience: float = 1.0, recovering: bool = False) -> None:
        self._patience = patience
        self._recovering = recovering
        self.current: Server | None = None
        """Where requests must lead; None when the server there was seen to take no writes, or the
        only one that takes them was replaced. A pooler leads there by old connections, too."""
        self._host: Host | None = None
        """The host that `current` was last found at."""
        self._host_failed = False
        """Whether it has failed since. Then it is asked together with the others, not first."""
        self._newest: dict[int, int] = {}
        """The newest timeline of each cluster."""
        self._server_times: dict[int, datetime] = {}
        """When a server on that timeline last answered, by that server's clock."""
        self._seen: WeakKeyDictionary[Any, tuple[Server, Host]] = WeakKeyDictionary()
        self._identify_query = IDENTIFY

    async def connect(self, *, host: Any = None, port: Any = None, **how: Any) -> Any:
        """Return a connection of asyncpg's to where requests must lead.

        The host that was found last comes first. Only when it does not lead there any more, all
        hosts are asked. Raises an error of `UNREACHABLE`.
        """
        hosts = _hosts(host, port)
        if len(hosts) > 1 and self._host in hosts and not self._host_failed:
            try:
                async with asyncio.timeout(self._patience):
                    connection = await self._ask(self._host, **how)
            except UNREACHABLE:
                self._host_failed = True
            else:
                if not self.leads_elsewhere(connection):
                    return connection
                connection.terminate()
        return await self.survey(host=host, port=port, **how)

    async def survey(self, *, host: Any = None, port: Any = None, **how: Any) -> Any:
        """Decide where requests must lead, and return a connection to there.

        Raises an error of `UNREACHABLE`. Then `current` is unchanged, except that it is None after
        ServerReplaced, or when the host last used takes no writes.
        """
        try:
            connection = await self.find(host=host, port=port, **how)
        except ServerReplaced:
            self.current = None
            raise
        self.current, self._host = self._seen[connection]
        self._host_failed = False
        return connection

    async def find(self, *, host: Any = None, port: Any = None, **how: Any) -> Any:
        """Return a connection to the newest server that takes writes; all hosts are asked at once.

        Those that take none are asked again while another one says nothing: then one of them may be
        promoted. Raises an error of `UNREACHABLE`.
        """
        hosts = _hosts(host, port)
        silent = set(hosts)
        asked = [asyncio.create_task(self._ask_while(silent, each, **how)) for each in hosts]
        best = None
        try:
            await self._wait_for(asked)
            for task in asked:
                task.cancel()
            best = self._best(await asyncio.gather(*asked, return_exceptions=True))
            return best
        finally:
            for task in asked:
                task.cancel()
                task.add_done_callback(partial(_close_unless, best))

    def server_of(self, connection: Any) -> Server:
        """Return the server that a connection of this object's leads to."""
        return self._seen[connection][0]

    def leads_elsewhere(self, connection: Any) -> bool:
        """Whether a connection does not lead where requests must lead."""
        server = self.server_of(connection)
        return server != self.current or self._was_replaced(server)

    def _was_replaced(self, server: Server) -> bool:
        return server.timeline < self._newest.get(server.cluster, 0)

    async def _ask_while(self, silent: set[Host], host: Host, **how: Any) -> Any:
        """Ask a host, and again while it takes no writes and there are silent ones."""
        while True:
            try:
                return await self._ask(host, **how)
            except TakesNoWrites:
                if not silent - {host}:
                    raise
            finally:
                silent.discard(host)
            await asyncio.sleep(PROMOTED_WITHIN)

    async def _ask(self, host: Host, **how: Any) -> Any:
        try:
            connection, answer = await self._open(host, **how)
        except TakesNoWrites:
            # Another server may take them, and know of revocations that this one does not.
            if host == self._host:
                self.current = None
            raise
        try:
            await self._require_newest(connection, answer)
        except BaseException:
            connection.terminate()
            raise
        self._newest[answer.server.cluster] = answer.server.timeline
        self._server_times[answer.server.cluster] = answer.server_time
        self._seen[connection] = answer.server, host
        return connection

    async def _require_newest(self, connection: Any, answer: Answer) -> None:
        """Raise ServerReplaced for a server that lacks what was committed on a newer timeline.

        An operator may have accepted that since a server on the newer timeline last answered.
        """
        if self._recovering:
            return
        server, _, lost = answer
        newest, accepted = self._newest.get(server.cluster, 0), lost and lost.recovered_at
        if lost and accepted is None:
            raise ServerReplaced(max(newest, lost.timeline))
        if self._was_replaced(server):
            server_time = self._server_times[server.cluster]
            if accepted is None or accepted < server_time:
                await note_lost(connection, server.cluster, newest, seen_at=server_time)
                raise ServerReplaced(newest)

    async def _open(self, host: Host, **how: Any) -> tuple[Any, Answer]:
        how.setdefault("target_session_attrs", "read-write")
        try:
            connection = await asyncpg.connect(host=host[0], port=host[1], **how)
        except asyncpg.TargetServerAttributeNotMatched:
            raise TakesNoWrites from None
        try:
            return connection, await self._identify(connection)
        except BaseException:
            connection.terminate()
            raise

    async def _identify(self, connection: Any) -> Answer:
        query = self._identify_query
        try:
            return await identify(connection, query)
        except IDENTITY_NOT_SUPPORTED:
            # Another host that is asked at the same time may have refused already.
            if query == IDENTIFY_MINIMAL:
                raise
            # For good: Postgres logs each refusal.
            self._identify_query = IDENTIFY_MINIMAL
            return await identify(connection, IDENTIFY_MINIMAL)

    async def _wait_for(self, asked: list[asyncio.Task[Any]]) -> None:
        """Wait until all have answered; once one leads to a server, not much longer."""
        waiting, timeout = set(asked), None
        while waiting:
            done, waiting = await asyncio.wait(
                waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                return
            if any(task.exception() is None for task in done):
                timeout = self._patience

    def _best(self, answers: list[Any]) -> Any:
        """Return the first connection to a newest server. Raises what says most of why not."""
        failures = [each for each in answers if isinstance(each, Exception)]
        for each in answers:
            if not isinstance(each, BaseException):
                if not self._was_replaced(self.server_of(each)):
                    return each
                failures.append(ServerReplaced(self._newest[self.server_of(each).cluster]))
        raise max(failures, key=_says_more)


def _says_more(failure: Exception) -> int:
    """Order failures of several hosts: silence says less than a server that answered."""
    if isinstance(failure, ServerReplaced):
        return 3
    if isinstance(failure, TakesNoWrites):
        return 2
    return 0 if isinstance(failure, ConnectionRefusedError | TimeoutError) else 1


def _hosts(host: Any, port: Any) -> list[Host]:
    return list(zip(host, port, strict=True)) if isinstance(host, list) else [(host, port)]


def _close_unless(kept: Any, asked: asyncio.Task[Any]) -> None:
    if not asked.cancelled() and asked.exception() is None and asked.result() is not kept:
        asked.result().terminate()
