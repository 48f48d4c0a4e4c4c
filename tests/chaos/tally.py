"""What was asked and answered, what must not have been, and what the database must hold."""

import math
import uuid
from collections import Counter
from dataclasses import dataclass, field

import asyncpg


@dataclass
class Asked:
    """How services of one kind have answered."""

    answers: Counter[str] = field(default_factory=Counter)
    probes: int = 0
    """Requests with what was taken away."""
    slowest: float = 0.0
    """Seconds from a revocation's acknowledgement to the last request sent that was let in."""
    last_503: float = -math.inf
    """When the last 503 came, by the monotonic clock."""


@dataclass
class Tally:
    """What was asked and answered so far, and what should not have been."""

    replicas: Asked = field(default_factory=Asked)
    second: Asked = field(default_factory=Asked)
    """Of the second service, which checks tokens by itself."""
    served: Counter[str] = field(default_factory=Counter)
    """By kind: what did what it was to do."""
    revocations: int = 0
    written: int = 0
    """Acknowledged writes that were looked for, and found, in the database."""
    violations: list[str] = field(default_factory=list)

    def violation(self, what: str) -> None:
        """Note what must not be."""
        self.violations.append(what)


@dataclass
class Expected:
    """What the database must hold: all of it was acknowledged."""

    items: set[uuid.UUID] = field(default_factory=set)
    sessions: set[uuid.UUID] = field(default_factory=set)
    ended: set[uuid.UUID] = field(default_factory=set)

    async def compare(self, database: asyncpg.Connection, tally: Tally) -> None:
        """Note as a violation what is missing."""
        for what, wanted, query in (
            ("items", self.items, "SELECT id FROM items WHERE id = ANY($1)"),
            ("sessions", self.sessions, "SELECT id FROM sessions WHERE id = ANY($1)"),
            (
                "ended sessions",
                self.ended,
                "SELECT id FROM sessions WHERE id = ANY($1) AND ended_at IS NOT NULL",
            ),
        ):
            # Their UUIDs are asyncpg's own, which compare with Python's.
            found = {row["id"] for row in await database.fetch(query, list(wanted))}
            tally.written += len(wanted)
            if lost := wanted - found:
                tally.violation(f"{len(lost)} acknowledged {what} are not in the database")
