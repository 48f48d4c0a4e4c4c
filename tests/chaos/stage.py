"""What there is to break: Postgres, the replicas, a second service, and the way between these."""

import random
from dataclasses import dataclass

import asyncpg

from tests.chaos.postgres import Cluster
from tests.chaos.second_service import SecondService
from tests.chaos.serving_process import ServingProcess
from tests.chaos.way import Way


@dataclass
class Stage:
    """All of it."""

    postgres: Cluster
    replicas: list[ServingProcess]
    second: SecondService
    way: Way
    """By which the second service reaches the replicas."""
    chance: random.Random

    async def database(self) -> asyncpg.Connection:
        """Return a connection of the checker's own, to the primary."""
        return await self.postgres.connect()

    def heal(self) -> None:
        """Let the way lead to every replica again."""
        self.way.heal()
        self.way.lead_to(*(replica.url for replica in self.replicas))
