"""README.md as data: its code blocks, run as they stand, and the settings table made for it.

`python -m tests.readme` writes the settings table anew.
"""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from app.settings import PROJECT, Settings

README = PROJECT / "README.md"
BLOCK_ENDS = "== the block ends here =="


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README.read_text(), re.M | re.S)
    assert found, f"README.md has no section {title}"
    return found[1]


def blocks(title: str, language: str) -> list[str]:
    """The code blocks of one language in a section."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.M | re.S)


def try_it(url: str, scopegate: str, cwd: Path, env: Mapping[str, str]) -> list[str]:
    """Paste the blocks of "Try it" into one shell; what each of them printed.

    `url` is where the service is, `scopegate` the shell's words for `.venv/bin/scopegate`.
    """
    pasted = f"\necho '{BLOCK_ENDS}'\n".join(blocks("Try it", "sh"))
    pasted = pasted.replace("http://127.0.0.1:8000", url).replace(".venv/bin/scopegate", scopegate)
    shell = ["sh", "-e", "-c", pasted]
    output = subprocess.run(shell, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return output.stdout.split(f"{BLOCK_ENDS}\n")


def readme_is_true_of(url: str, *, scopegate: str, environment: Mapping[str, str]) -> None:
    """Assert that "Try it" does with this service what README says it does."""
    made, tokens, used, revoked = try_it(url, scopegate, PROJECT, environment)
    assert "alice" in made
    assert json.loads(tokens)["scope"] == "read:items"
    assert '"username":"alice"' in used
    assert '"items":[]' in used
    assert "403 Forbidden" in used
    assert "insufficient_scope" in used
    assert "Revoked from alice: read:items" in revoked
    assert "403 Forbidden" in revoked


def settings_table() -> str:
    """The table of all settings that have a description."""
    rows = [
        f"| `SCOPEGATE_{name.upper()}` | {_default(field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
        if field.description
    ]
    return "| variable | default | what it is |\n|---|---|---|\n" + "".join(rows)


def table_in(title: str) -> str:
    """The table that stands in a section."""
    return "".join(re.findall(r"^\|.*\n", section(title), re.M))


def _default(field: FieldInfo) -> str:
    default = field.default
    if default in (None, ()):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, Path):
        default = default.relative_to(PROJECT)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    README.write_text(README.read_text().replace(table_in("Settings"), settings_table()))
