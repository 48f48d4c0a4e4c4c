"""Plain English: the worst habits stay out of the code and the documents."""

import re
from pathlib import Path

import pytest

from app.settings import PROJECT

FORBIDDEN = {
    r"\b(whoever|whatsoever)\b": "name the client, the caller, the user or the process",
    r"(?<!`)\b(nobody|somebody|anybody|everybody)\b(?!`)": "say no user, another process",
    r"\bis no more\b": "say that it is deleted, ended or gone",
    r"\b(is|are) put out\b": "say disabled or signed out",
    r"\bby the way\b": "leave it out",
}
"""What must not be written, and what to write instead."""
NAMES_A_USER = {"app/db/embedded_server.py", "docs/explanation/embedded-postgres.md"}
"""Files about the operating system's user of that name."""


def written() -> list[Path]:
    """The code of the service and of the client package, and the documents."""
    pages = [PROJECT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    pages += [PROJECT / "client" / name for name in ("README.md", "CHANGELOG.md")]
    code = [path for name in ("app", "client/src") for path in (PROJECT / name).rglob("*.py")]
    return sorted([*pages, *code, *(PROJECT / "docs").rglob("*.md")])


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_the_worst_habits_of_language_are_not_written(pattern: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()} ({FORBIDDEN[pattern]})"
        for path in written()
        if (name := str(path.relative_to(PROJECT))) not in NAMES_A_USER
        for number, line in enumerate(path.read_text().splitlines(), 1)
        # Names in capitals are constants, which have a text of their own.
        if any(not match[0].isupper() for match in re.finditer(pattern, line, re.IGNORECASE))
    ]
    assert not found, "\n".join(found)
