"""The package: what a wheel holds, and that it serves from an environment without a checkout."""

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import httpx2
import pytest

from app.settings import PROJECT
from tests.conftest import SECRET
from tests.support.factories import PASSWORD
from tests.support.processes import environment, serving

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
HATCHLING = (sys.executable, "-m", "hatchling")
# Without an index: the environment of the tests has what builds it.
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")
PLACES = """
import json
from app.settings import MIGRATIONS, PACKAGE, Settings
print(json.dumps([str(path.resolve()) for path in (PACKAGE, MIGRATIONS, Settings().home)]))
"""


@dataclass(frozen=True)
class Environment:
    """An environment of its own that has the dependencies, of the versions in the lock files."""

    folder: Path

    @classmethod
    def with_package(cls, folder: Path, *package: str | Path) -> "Environment":
        """Make one, and install the package into it as pip's arguments say."""
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        made = cls(folder)
        # Those of the tests' environment, but not the checkout: Python reads no .pth file in a
        # folder that a .pth file names.
        (made.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        # The tests' environment has Scopegate too, which pip must not take for installed.
        pip = (*PIP, "--python", made.python, "install", "--ignore-installed")
        run(*pip, *OFFLINE, *package)
        return made

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def scopegate(self) -> Path:
        return self.folder / "bin" / "scopegate"

    @property
    def packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder)}))

    def places(self, cwd: Path) -> list[Path]:
        """Return where it has its code and its migrations, and keeps its data, in this folder."""
        output = run(self.python, "-c", PLACES, cwd=cwd)
        return [Path(each) for each in json.loads(output)]


def run(*command: str | Path, cwd: Path = PROJECT, **settings: object) -> str:
    """Run a command, which must succeed; return what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env=environment(**settings), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(folder: Path, *command: str | Path, cwd: Path = PROJECT) -> Path:
    """Return the one file that a command makes in this folder."""
    run(*command, folder, cwd=cwd)
    (made,) = folder.iterdir()
    return made


def held(wheel: Path) -> set[str]:
    """Return the files that a wheel installs, without those about the package itself."""
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def files(folder: str) -> set[str]:
    found = (PROJECT / folder).rglob("*")
    paths = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(PROJECT)) for path in paths}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return built(folder, *PIP, "wheel", *OFFLINE, PROJECT, "--wheel-dir")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment into which the wheel was installed."""
    return Environment.with_package(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder outside of the checkout, to start commands in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_a_wheel_holds_the_code_the_static_files_and_the_migrations(wheel: Path) -> None:
    expected = files("app") | {f"app/{name}" for name in files("migrations")}
    assert held(wheel) == expected
    assert expected > {
        "app/console/index.html",
        "app/db/triggers.sql",
        "app/migrations/env.py",
        "app/migrations/script.py.mako",
        "app/py.typed",
    }


def test_a_wheel_made_from_the_source_distribution_holds_the_same(
    wheel: Path, tmp_path: Path
) -> None:
    source = built(tmp_path / "source", *HATCHLING, "build", "--target", "sdist", "--directory")
    shutil.unpack_archive(source, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = built(
        tmp_path / "again", *HATCHLING, "build", "--target", "wheel", "--directory", cwd=unpacked
    )
    assert held(again) == held(wheel)


def test_an_installed_wheel_migrates_and_serves_without_a_checkout(
    installed: Environment, empty_database_url: str, empty: Path
) -> None:
    settings = {"database_url": empty_database_url, "secret_keys": SECRET}
    run(
        *(installed.scopegate, "migrate", "--first-admin"),
        cwd=empty,
        admin_password=PASSWORD,
        **settings,
    )
    with (
        serving([installed.scopegate, "serve"], cwd=empty, **settings) as service,
        httpx2.Client(base_url=service.url) as client,
    ):
        form = {"username": "admin", "password": PASSWORD}
        token = client.post("/token", data=form).raise_for_status().json()["access_token"]
        me = client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert me.raise_for_status().json()["granted"] == ["admin"]
        for page in ("/console", "/docs"):
            assert client.get(page).status_code == 200
    assert list(empty.iterdir()) == []
    code, migrations, _ = installed.places(empty)
    assert code == (installed.packages / "app").resolve()
    assert migrations == code / "migrations"


def test_without_a_database_url_an_installed_wheel_keeps_its_data_where_it_is_started(
    installed: Environment, empty: Path
) -> None:
    before = set(installed.packages.iterdir())
    assert "made the user admin" in run(installed.scopegate, "migrate", "--first-admin", cwd=empty)
    assert (empty / ".scopegate" / "pg" / "PG_VERSION").exists()
    assert (empty / ".scopegate" / "secret_keys").exists()
    assert set(installed.packages.iterdir()) == before


@pytest.mark.parametrize(
    "first",
    [("app", "migrations"), ("app/__init__.py",)],
    ids=["all of it", "what the image has when it installs"],
)
def test_an_editable_install_runs_the_code_and_the_migrations_of_the_checkout(
    tmp_path: Path, empty: Path, first: Sequence[str]
) -> None:
    checkout = tmp_path / "checkout"
    copy(["pyproject.toml", "README.md", "LICENSE", *first], checkout)
    editable = Environment.with_package(tmp_path / "environment", "--editable", checkout)
    copy(["app", "migrations"], checkout)
    assert not (editable.packages / "app").exists()
    expected = [checkout / "app", checkout / "migrations", checkout / ".scopegate"]
    assert editable.places(empty) == [path.resolve() for path in expected]


def copy(names: Sequence[str], checkout: Path) -> None:
    """Copy these files and folders of the project to another place."""
    for name in names:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, checkout / name, dirs_exist_ok=True)
        else:
            shutil.copy(PROJECT / name, checkout / name)
