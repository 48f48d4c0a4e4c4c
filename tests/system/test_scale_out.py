"""`docker compose --scale api=3`, for real: three replicas behind the proxy and PgBouncer."""

import asyncio
import re
from asyncio import TaskGroup
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.support.compose import COMPOSE_FILE, SCALE_FILE, Project, compose_project
from tests.support.factories import PASSWORD
from tests.support.processes import PATIENCE, eventually

pytestmark = pytest.mark.docker

REPLICAS = (1, 2, 3)
METRICS_TOKEN = "a-token-for-the-metrics-of-a-test-0123456789"
READERS = 4
IN_A_ROW = 100

ASK = """
import http.client, sys
method, path, token = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@dataclass(frozen=True)
class Answer:
    status: int
    body: str


@dataclass(frozen=True)
class Scaled:
    """A Compose project with three replicas of `api`."""

    project: Project

    def client(self, token: str) -> httpx2.Client:
        """Whoever holds this token, before the proxy."""
        bearer = {"Authorization": f"Bearer {token}"}
        url = self.project.url
        return httpx2.Client(base_url=url, headers=bearer, timeout=PATIENCE, trust_env=False)

    def container(self, replica: int) -> str:
        return f"{self.project.name}-api-{replica}"

    def ask(self, replica: int, method: str, path: str, *, token: str) -> Answer:
        """What one replica answers, asked where it runs and not through the proxy."""
        command = ("docker", "exec", self.container(replica), "python", "-c", ASK)
        status, body = self.project.run(*command, method, path, token).split(" ", 1)
        return Answer(int(status), body)

    def lookups(self, replica: int) -> int:
        """How many requests with a good token a replica has seen since it was started."""
        metrics = self.ask(replica, "GET", "/metrics", token=METRICS_TOKEN).body
        found = re.findall(r"^scopegate_principal_lookups_total\{.*\} (\S+)$", metrics, re.M)
        return int(sum(map(float, found)))

    def takes_part(self, replica: int) -> bool:
        """Whether a replica that was started again gets requests from the proxy."""
        try:
            return self.lookups(replica) > 0
        except AssertionError:
            return False  # It does not answer yet.

    def refuse(self, *replicas: int, token: str) -> bool:
        """Whether each of these replicas refuses the token."""
        asked = [self.ask(replica, "GET", "/users/me", token=token) for replica in replicas]
        return all(answer.status == 401 for answer in asked)

    def gateway(self) -> str:
        """The address from which the proxy sees whoever connects on this machine."""
        where = "{{(index .IPAM.Config 0).Gateway}}"
        network = f"{self.project.name}_front"
        return self.project.run("docker", "network", "inspect", "-f", where, network).strip()


@pytest.fixture(scope="module")
def scaled() -> Iterator[Scaled]:
    with compose_project(COMPOSE_FILE, SCALE_FILE) as project:
        project.settings["SCOPEGATE_ADMIN_PASSWORD"] = PASSWORD
        project.settings["SCOPEGATE_METRICS_TOKEN"] = METRICS_TOKEN
        project.up("--scale", "api=3")
        yield Scaled(project)


def test_three_replicas_share_the_work_and_refuse_what_one_of_them_revokes(scaled: Scaled) -> None:
    before = [scaled.lookups(replica) for replica in REPLICAS]
    token = scaled.project.login("admin", PASSWORD)
    with scaled.client(token) as client:
        for _ in range(30):
            assert client.get("/users/me").status_code == 200
        after = [scaled.lookups(replica) for replica in REPLICAS]
        answered = [now - then for now, then in zip(after, before, strict=True)]
        assert sum(answered) == 30
        assert min(answered) > 0, "the proxy asks each of them"

        for replica in REPLICAS:
            assert scaled.ask(replica, "GET", "/users/me", token=token).status == 200
        assert scaled.ask(1, "DELETE", "/users/me/sessions", token=token).status == 204
        assert scaled.refuse(1, token=token), "at once"
        eventually(lambda: scaled.refuse(2, 3, token=token))
        assert {client.get("/users/me").status_code for _ in range(30)} == {401}


def test_each_replica_trusts_what_it_remembers_behind_pgbouncer(scaled: Scaled) -> None:
    """Each hears of changes: by a connection of its own that leads past PgBouncer."""

    def trusts(replica: int) -> bool:
        return '"checks":"cached"' in scaled.ask(replica, "GET", "/health/ready", token="-").body

    eventually(lambda: all(map(trusts, REPLICAS)))
    settings = scaled.project.compose("exec", "-T", "api", "env")
    assert (
        "SCOPEGATE_DATABASE_URL=postgresql://scopegate_service@pgbouncer:6432/scopegate" in settings
    )


def test_the_audit_log_tells_the_address_that_the_proxy_saw(scaled: Scaled) -> None:
    pretended = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    pretended["X-Request-Id"] = "somebody-elses"
    token = scaled.project.login("admin", PASSWORD, pretended)
    with scaled.client(token) as client:
        logins = client.get("/audit", params={"action": "login.succeeded"}).json()["items"]
    assert {entry["address"] for entry in logins} == {scaled.gateway()}
    assert "somebody-elses" not in {entry["request_id"] for entry in logins}


async def test_a_replica_may_be_killed_and_come_back_under_load(scaled: Scaled) -> None:
    """What can be sent twice, reading and signing in, goes on as if nothing had happened."""
    bearer = {"Authorization": f"Bearer {scaled.project.login('admin', PASSWORD)}"}
    form = {"username": "admin", "password": PASSWORD}
    statuses: Counter[int] = Counter()
    cut = 0
    over = False

    async def keep_asking(method: str, path: str, **what: Any) -> None:
        nonlocal cut
        while not over:
            try:
                answer = await client.request(method, path, **what)
            except httpx2.RemoteProtocolError:
                # It had begun when its replica was killed: no proxy can ask another for the rest.
                cut += 1
                continue
            statuses[answer.status_code] += 1
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) > 0
                assert answer.json()["error"] == "temporarily_unavailable"

    async def all_is_well() -> None:
        """Soon there is nothing but good answers."""
        async with asyncio.timeout(PATIENCE):
            seen = Counter[int]()
            while (statuses - seen).keys() != {200}:
                seen = Counter(statuses)
                while (statuses - seen).total() < IN_A_ROW:
                    await asyncio.sleep(0.01)

    options: dict[str, Any] = {"base_url": scaled.project.url, "timeout": PATIENCE}
    async with httpx2.AsyncClient(**options, trust_env=False) as client, TaskGroup() as load:
        for _ in range(READERS):
            load.create_task(keep_asking("GET", "/users/me", headers=bearer))
        load.create_task(keep_asking("POST", "/token", data=form))
        await all_is_well()
        await asyncio.to_thread(scaled.project.run, "docker", "kill", scaled.container(2))
        await all_is_well()
        await asyncio.to_thread(scaled.project.run, "docker", "start", scaled.container(2))
        await asyncio.to_thread(eventually, lambda: scaled.takes_part(2))
        await all_is_well()
        over = True
    assert statuses.keys() <= {200, 503}, "and nobody is signed out"
    assert cut <= 1 + READERS
