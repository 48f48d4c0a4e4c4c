"""Clients in Go, Rust and Java, unmodified, against a service that serves.

One program a language does all there is to do, once: most of the time goes into compiling it.
"""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.clients import PERSON, SERVICE, Known, cant_run, known, need, run
from tests.support.processes import PATIENCE, command, eventually, free_port, serving

pytestmark = pytest.mark.toolchain
PROGRAMS = Path(__file__).parent / "toolchains"


@dataclass(frozen=True)
class Served:
    """A service that serves, and who is known to it."""

    issuer: str
    known: Known
    pem: str

    def given(self) -> dict[str, str]:
        """What a program is told on its standard input."""
        return {
            **PERSON,
            "issuer": self.issuer,
            "client_id": SERVICE,
            "secret": self.known.service_secret,
            "pem": self.pem,
        }

    def token(self, scope: str) -> dict[str, str]:
        """The header with a token of the person."""
        answer = httpx2.post(f"{self.issuer}/token", data=PERSON | {"scope": scope})
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture(scope="module")
async def served(server_url: str, template: None) -> AsyncIterator[Served]:
    async with known(server_url) as people:
        with serving(**people.settings) as process:
            pem = await command("key", "list", "--pem", **people.settings)
            yield Served(process.url, people, pem)


async def test_go_s_oauth2_and_go_oidc_sign_in_refresh_and_verify(
    served: Served, tmp_path: Path
) -> None:
    need("go")
    program = await built(
        "go", "go", "build", "-o", tmp_path / "clients", ".", copy=tmp_path / "go"
    )
    came = await answer_of(tmp_path / "clients", of=served, cwd=program)
    for login in (came["login"], came["refreshed"]):
        assert login["sub"] == served.known.person_id
        assert login["client"] == "scopegate"
        assert login["scope"] == login["answered"] == "read:items"
        assert login["type"] == "Bearer"
        assert 0 < login["remaining"] <= 900
    assert came["rotated"] is True
    assert came["service"].keys() == {"header", "form", "detected"}
    for service in came["service"].values():
        assert (service["sub"], service["client"]) == (served.known.service_id, SERVICE)
    assert (came["reading"], came["writing"]) == (200, 403)
    assert (came["wrongPassword"], came["wrongSecret"]) == ("invalid_grant", "invalid_client")
    assert came["wrongAudience"] is came["wrongSignature"] is True


async def test_rust_s_oauth2_and_jsonwebtoken_sign_in_refresh_and_verify(
    served: Served, tmp_path: Path
) -> None:
    need("cargo")
    program = await built("rust", "cargo", "build", "--quiet", copy=tmp_path / "rust")
    came = await answer_of("cargo", "run", "--quiet", of=served, cwd=program)
    for login in (came["login"], came["refreshed"], came["by_pem"]):
        assert login["sub"] == served.known.person_id
        assert login["scope"] == "read:items"
    for service in (came["basic"], came["form"]):
        assert service["sub"] == served.known.service_id
        assert service["client_id"] == SERVICE
    assert came["scopes"] == ["read:items"]
    assert 0 < came["lifetime"] <= 900
    assert (came["wrong_password"], came["wrong_secret"]) == ("invalid_grant", "invalid_client")
    assert came["wrong_audience"] is came["revoked"] is True
    assert came["before"] == {"active": True, "username": PERSON["username"]}
    assert came["after"] == {"active": False, "username": None}


async def test_spring_boot_takes_access_tokens_and_gets_its_own(
    served: Served, tmp_path: Path
) -> None:
    need("java", "mvn")
    classpath = tmp_path / "classpath"
    program = await built(
        "java",
        *("mvn", "--quiet", "--batch-mode", "compile", "dependency:build-classpath"),
        f"-Dmdep.outputFile={classpath}",
        copy=tmp_path / "java",
    )
    with spring_boot(f"{program}/target/classes:{classpath.read_text()}", served) as url:
        good = httpx2.get(f"{url}/orders", headers=served.token("read:items"))
        assert (good.status_code, good.text) == (200, served.known.person_id)
        short = httpx2.get(f"{url}/orders", headers=served.token("write:items"))
        assert short.status_code == 403
        assert 'error="insufficient_scope"' in short.headers["www-authenticate"]
        assert httpx2.get(f"{url}/orders").status_code == 401
        tampered = served.token("read:items")["Authorization"][:-6] + "AAAAAA"
        bad = httpx2.get(f"{url}/orders", headers={"Authorization": tampered})
        assert bad.status_code == 401
        assert 'error="invalid_token"' in bad.headers["www-authenticate"]
        called = httpx2.get(f"{url}/calling")
        assert (called.status_code, called.json()["items"]) == (200, [])


async def built(language: str, *words: str | Path, copy: Path) -> Path:
    """Build a copy of this language's program, never in the checkout; where the copy is."""
    shutil.copytree(PROGRAMS / language, copy)
    # Go would have a C compiler build a part of its own library.
    code, out, err = await run(*words, cwd=copy, env={"CGO_ENABLED": "0"})
    if code != 0:
        # Without its packages, or with an older compiler, it can't be built on this machine.
        cant_run(f"{words[0]} can't build the program: {err or out}")
    return copy


async def answer_of(*words: str | Path, of: Served, cwd: Path) -> Any:
    """What the program says that it saw of the service."""
    code, out, err = await run(*words, cwd=cwd, given=of.given())
    assert code == 0, err
    return json.loads(out)


@contextmanager
def spring_boot(classpath: str, served: Served) -> Iterator[str]:
    """Run the service that Spring Boot serves; its URL."""
    port = free_port()
    settings = {
        "SERVER_PORT": str(port),
        "ISSUER": served.issuer,
        "CLIENT_ID": SERVICE,
        "CLIENT_SECRET": served.known.service_secret,
    }
    words = ["java", "-XX:TieredStopAtLevel=1", "-cp", classpath, "orders.Orders"]
    process = subprocess.Popen(words, env=os.environ | settings, stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, "it has ended"
        try:
            return httpx2.get(f"{url}/orders").status_code == 401
        except httpx2.TransportError:
            return False

    try:
        eventually(answers)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)
