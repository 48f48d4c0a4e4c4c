"""The package itself: what its wheel holds and needs, and that its core stays small."""

import ast
import io
import re
import subprocess
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

CLIENT = Path(__file__).parents[1]
SOURCE = CLIENT / "src" / "scopegate_client"
ADAPTERS = {"fastapi.py", "mcp.py"}
AROUND = {*ADAPTERS, "__init__.py", "client.py", "testing.py"}
"""Not of the core: what configures it, and fits it to frameworks and tests."""
WITHOUT_EXTRAS = """
import sys, importlib.util
assert importlib.util.find_spec("app") is None, "the service is installed"
for extra in ("fastapi", "starlette", "mcp"):
    sys.modules[extra] = None
import scopegate_client
print(scopegate_client.__file__)
scopegate_client.Scopegate("https://auth.example", client_id="orders", client_secret="s")
"""


def core() -> list[Path]:
    return [path for path in sorted(SOURCE.glob("*.py")) if path.name not in AROUND]


def lines_of_code(text: str) -> int:
    """Return how many lines are neither empty, nor a comment, nor of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER}
    skipped |= {tokenize.INDENT, tokenize.DEDENT}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - documented)


def imported(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_core_has_fewer_than_500_lines_of_code() -> None:
    sizes = {path.name: lines_of_code(path.read_text()) for path in core()}
    assert sum(sizes.values()) < 500, sizes
    assert max(sizes.values()) < 150, sizes


def test_the_rules_do_nothing_but_judge() -> None:
    """No clock, no network, no event loop: a port to another language can begin here."""
    pure = {"freshness.py", "knowledge.py", "principals.py"}
    allowed = {"collections", "collections.abc", "dataclasses", "datetime", "math", "typing"}
    own = {f"scopegate_client.{name.removesuffix('.py')}" for name in pure}
    for name in pure:
        assert set(imported(SOURCE / name)) <= allowed | own, name


def test_nothing_of_the_service_is_imported_and_the_extras_only_where_they_are_needed() -> None:
    for path in SOURCE.glob("*.py"):
        roots = {name.partition(".")[0] for name in imported(path)}
        assert "app" not in roots
        assert not roots & {"fastapi", "mcp", "starlette"} or path.name in ADAPTERS, path.name


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=CLIENT.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without an index: the environment of the tests has what builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "wheel", *offline, CLIENT, "--wheel-dir", folder)
    (built,) = folder.iterdir()
    return built


@pytest.mark.system
def test_the_wheel_holds_the_package_its_types_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        said = archive.read(metadata).decode()
    held = {name for name in names if ".dist-info/" not in name}
    files = [*SOURCE.glob("*.py"), SOURCE / "py.typed"]
    assert held == {f"scopegate_client/{path.name}" for path in files}
    needs = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*(?:; extra == '(\w+)')?$", said, re.M)
    assert set(needs) == {
        ("httpx2", ""),
        ("pyjwt", ""),
        ("fastapi", "fastapi"),
        ("mcp", "mcp"),
    }
    assert "Requires-Python: >=3.11" in said


@pytest.mark.system
def test_the_wheel_works_in_an_empty_environment_without_the_service_and_the_extras(
    wheel: Path, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty")
    python = tmp_path / "empty" / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "empty")}))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    install = (*pip, "--python", python, "install", "--no-index", "--no-deps")
    run(*install, "--ignore-installed", wheel)
    # The dependencies are those of the tests' environment, but not what is installed there from
    # this checkout: Python reads no .pth file in a folder that a .pth file names.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    where = run(python, "-I", "-c", WITHOUT_EXTRAS)
    assert Path(where.strip()).parent == (packages / "scopegate_client").resolve()
