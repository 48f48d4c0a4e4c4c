"""`make run` on a fresh machine: as root and as an ordinary user, from a path with a space in it,
after a `kill -9`, and twice over one data folder."""

import fcntl
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import httpx2
import pytest

from tests.support.factories import PASSWORD
from tests.support.processes import ROOT, Service, eventually, serving

WHO_RUNS_THE_TESTS, NOBODY = "who-runs-the-tests", "nobody"
NOBODY_ID = pwd.getpwnam(NOBODY).pw_uid
IS_GOOD_ENOUGH = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"


@dataclass(frozen=True)
class Checkout:
    """A copy of this checkout, for the user who works in it."""

    folder: Path
    user: int
    become: list[str]  # what makes a command run as that user

    @property
    def home(self) -> Path:
        return self.folder / ".scopegate"

    def do(self, *command: str, stdin: str = "") -> None:
        """Run a command there, as its user; it must succeed."""
        subprocess.run(
            [*self.become, *command], cwd=self.folder, input=stdin, text=True, check=True
        )

    def make_run(self) -> AbstractContextManager[Service]:
        return serving([*self.become, "make", "run"], cwd=self.folder)


@pytest.fixture(scope="module", params=[WHO_RUNS_THE_TESTS, NOBODY])
def installed(request: pytest.FixtureRequest) -> Iterator[Checkout]:
    """A checkout with everything installed, as `make run` does it when it runs first."""
    if request.param == NOBODY and os.geteuid() != 0:
        pytest.skip("only root becomes another user; the ordinary one has run the tests already")
    # Not in pytest's own temporary folder: nobody but its owner can go there.
    with tempfile.TemporaryDirectory(prefix="scopegate-test-") as temporary:
        folder = Path(temporary, "a path with spaces")
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", *ignored_by_git()))
        if request.param == NOBODY:
            checkout = Checkout(folder, NOBODY_ID, become_nobody(Path(temporary)))
        else:
            checkout = Checkout(folder, os.geteuid(), with_python(sys.executable))
        checkout.do("make", ".venv/.run")
        yield checkout


@pytest.fixture
def checkout(installed: Checkout) -> Checkout:
    """A checkout without data: `make run` has never run here."""
    shutil.rmtree(installed.home, ignore_errors=True)
    return installed


def ignored_by_git() -> list[str]:
    return [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]


def with_python(python: str | Path) -> list[str]:
    """What makes `make` take this Python, and nothing from a `make` that runs the tests."""
    return ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", f"PYTHON={python}"]


def become_nobody(home: Path) -> list[str]:
    """Give `home` to the user `nobody`, and find a Python for them."""
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY_ID, -1)
    become = ["setpriv", f"--reuid={NOBODY_ID}", f"--regid={NOBODY_ID}", "--clear-groups"]
    # Only where every Python is below /root, say: root's right of way, lent to reach it. `make`
    # asks access(2), which heeds it only without the uid fix-up.
    lent = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    lent += ["--securebits=+no_setuid_fixup"]
    own = Path(sys.executable).resolve()
    pythons = [own, *(Path(folder, "python3") for folder in os.get_exec_path())]
    for prefix, python in product((become, [*become, *lent]), pythons):
        # It is `env` that executes Python: setpriv still has root's rights when it executes.
        command = [*prefix, *with_python(python), f"HOME={home}"]
        probe = [*command, str(python), "-c", IS_GOOD_ENOUGH]
        if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0:
            return command
    pytest.fail("there is no Python here that another user may run")


def postgres_runs(checkout: Checkout) -> bool:
    """Whether any process of the data folder's Postgres is left: each holds its lock."""
    with (checkout.home / "server.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def admins_password(service: Service) -> str:
    found = re.search(r"made the user admin, password (\S+) \(shown once\)", service.output())
    assert found, service.output()
    return found[1]


def log_in(service: Service, username: str, password: str) -> httpx2.Client:
    """A client with a token of this user."""
    form = {"username": username, "password": password}
    answer = httpx2.post(f"{service.url}/token", data=form)
    assert answer.status_code == 200, answer.text
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    return httpx2.Client(base_url=service.url, headers=bearer)


def titles(client: httpx2.Client) -> list[str]:
    return [item["title"] for item in client.get("/items").json()["items"]]


def test_the_first_run_makes_an_admin_whose_password_it_prints(checkout: Checkout) -> None:
    with (
        checkout.make_run() as service,
        log_in(service, "admin", admins_password(service)) as admin,
    ):
        assert admin.get("/users/me").json()["granted"] == ["admin"]
    assert checkout.home.stat().st_uid == checkout.user


def test_a_run_after_a_kill_9_has_the_same_admin_and_data(checkout: Checkout) -> None:
    with checkout.make_run() as killed:
        password = admins_password(killed)
        with log_in(killed, "admin", password) as admin:
            assert admin.post("/items", json={"title": "Lamp"}).status_code == 201
        killed.kill()
    with checkout.make_run() as service, log_in(service, "admin", password) as admin:
        assert titles(admin) == ["Lamp"]
        assert "password" not in service.output()


@pytest.mark.parametrize("end", [Service.terminate, Service.interrupt], ids=["SIGTERM", "Ctrl-C"])
def test_a_run_takes_its_postgres_with_it(
    checkout: Checkout, end: Callable[[Service], None]
) -> None:
    with checkout.make_run() as service:
        assert postgres_runs(checkout)
        end(service)
    eventually(lambda: not postgres_runs(checkout))


def test_two_runs_share_one_data_folder(checkout: Checkout) -> None:
    create = (".venv/bin/scopegate", "user", "create", "alice", "--scope", "admin")
    with checkout.make_run() as one, checkout.make_run() as other:
        checkout.do(*create, stdin=PASSWORD)
        with log_in(one, "alice", PASSWORD) as here, log_in(other, "alice", PASSWORD) as there:
            assert here.post("/items", json={"title": "Lamp"}).status_code == 201
            assert titles(there) == ["Lamp"]
