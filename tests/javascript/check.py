"""Check the JavaScript: format and common mistakes by Biome, types by TypeScript's compiler.

`python -m tests.javascript.check` checks. With `--write` it formats and applies safe fixes instead.
Both tools come from npm and are not shipped: browsers get the files of app/console as they are.
"""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

from app.settings import PROJECT
from tests.javascript.declarations import write_declarations

TOOLS = Path(__file__).resolve().parent
LOCK = TOOLS / "package-lock.json"
INSTALLED = TOOLS / "node_modules"
INSTALLED_LOCK = INSTALLED / "installed-lock.json"
"""A copy of the lock that was installed last, so that npm runs only after a change."""
PROGRAMS = INSTALLED / ".bin"
CHECKED = [str(PROJECT / name) for name in ("app", "examples", "tests")]


def main(*options: str) -> int:
    """Run the tools and return the exit status: 1 where one of them finds a problem."""
    if missing := missing_tools():
        sys.stderr.write(f"The JavaScript is not checked: {' and '.join(missing)} not found.\n")
        # CI must never skip a check. On other machines Python alone is enough.
        return 1 if os.environ.get("CI") else 0
    install()
    status = run("biome", "check", "--error-on-warnings", "--config-path=.", *options, *CHECKED)
    if status or "--write" in options:
        return status
    write_declarations()
    return run("tsc", "--project", ".")


def missing_tools() -> list[str]:
    """Return which of the programs that everything here needs are not installed."""
    return [tool for tool in ("node", "npm") if shutil.which(tool) is None]


def install() -> None:
    """Install the tools that the lock names, unless they are there."""
    if INSTALLED_LOCK.exists() and filecmp.cmp(LOCK, INSTALLED_LOCK, shallow=False):
        return
    print("Installing what the JavaScript checks need into tests/javascript/node_modules …")
    # Scripts of packages never run: see .npmrc.
    subprocess.run(["npm", "ci", "--loglevel=error"], cwd=TOOLS, stdout=sys.stderr, check=True)
    shutil.copyfile(LOCK, INSTALLED_LOCK)


def run(program: str, *arguments: str) -> int:
    """Run an installed program and return its exit status."""
    return subprocess.run([PROGRAMS / program, *arguments], cwd=TOOLS, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
