"""Imports as processes of their own: two at once, killed, and of lines of any length."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.runtime import Runtime
from tests.support.commands import Environment
from tests.support.processes import PATIENCE, ROOT, command

# Runs a command and tells the most memory that it held, in KiB; the caller's own does not count.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


async def test_a_line_of_any_length_takes_little_memory(
    environment: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "people.csv"
    with file.open("w") as target:
        target.write("username,password\nBen,")
        for _ in range(300):
            target.write("b" * 1_000_000)
    importing = (sys.executable, "-m", "app", "user", "import", str(file))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEASURE, *importing), cwd=ROOT, stderr=PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"longer than a row" in err
    assert int(err.splitlines()[-1]) * 1024 < 200_000_000


async def test_two_imports_at_once_make_everybody_once(
    environment: Environment, own_runtime: Runtime
) -> None:
    rows = [f"user{i},{hash_of(i)},read:items write:items" for i in range(2000)]
    head = "username,password_hash,scopes"
    one, other = await asyncio.gather(
        imported_apart([head, *rows]), imported_apart([head, *reversed(rows)])
    )
    assert one["made"] + other["made"] == one["rows"] == other["rows"] == len(rows)
    await assert_whole(own_runtime)


async def imported_apart(lines: list[str]) -> dict[str, Any]:
    """The report of an import in a process of its own."""
    report: dict[str, Any] = json.loads(
        await command("user", "import", "-", "--json", stdin="\n".join(lines))
    )
    return report


async def test_an_import_that_is_killed_is_taken_up_again_and_nothing_is_doubled_or_lost(
    environment: Environment, own_runtime: Runtime, tmp_path: Path
) -> None:
    file, rows = tmp_path / "people.csv", 12_000
    with file.open("w") as target:
        print("username,password_hash,scopes", file=target)
        for i in range(rows):
            print(f"user{i},{hash_of(i)},read:items write:items", file=target)
    importing = [sys.executable, "-m", "app", "user", "import", str(file), "--json"]

    for reached in (2_000, 5_000):
        process = await asyncio.create_subprocess_exec(*importing, cwd=ROOT, stderr=DEVNULL)
        async with asyncio.timeout(PATIENCE):
            while (await there(own_runtime))["people"] < reached:
                await asyncio.sleep(0.01)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        await assert_whole(own_runtime)
    killed_at = (await there(own_runtime))["people"]
    assert killed_at < rows

    again = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MEASURE, *importing), cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    out, err = await again.communicate()
    report = json.loads(out)
    assert again.returncode == 0
    assert report["refused"] == []
    assert report["made"] + report["already_there"] == report["rows"] == rows
    # The last batch of the one that was killed may have been committed a moment later.
    assert killed_at <= report["already_there"] < rows
    assert int(err.splitlines()[-1]) * 1024 < 200_000_000
    await assert_whole(own_runtime)
    assert await there(own_runtime) == {"people": rows, "hashes": rows}


def hash_of(i: int) -> str:
    """Somebody's hash; nobody knows the password."""
    return f"$2b$04$abcdefghijklmnopqrstuu{i:030d}."


async def there(runtime: Runtime) -> dict[str, int]:
    """How many people there are, and how many different hashes."""
    counting = "SELECT count(*) AS people, count(DISTINCT password_hash) AS hashes FROM users"
    async with runtime.sessions() as db:
        return dict((await db.execute(text(counting))).mappings().one())


async def assert_whole(runtime: Runtime) -> None:
    """Every person has both grants, and three entries that tell of it all."""
    torn = """
        SELECT username FROM users
        LEFT JOIN (SELECT user_id, count(*) AS held FROM grants GROUP BY 1) g ON user_id = users.id
        LEFT JOIN (SELECT subject, count(*) AS told FROM audit_entries GROUP BY 1) a
            ON subject = users.id
        WHERE held IS DISTINCT FROM 2 OR told IS DISTINCT FROM 3
    """
    async with runtime.sessions() as db:
        assert list(await db.scalars(text(torn))) == []
