"""What the documents say that the code knows better: settings, routes, promises and their tests.

`python -m tests.generated` writes them anew.
"""

import ast
from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from app.main import create_app
from app.settings import PROJECT, Settings
from tests.promises import PROMISES
from tests.support.documents import Document

MARKER = "<!-- From here on it is made by: python -m tests.generated -->\n"
SETTINGS = Document("docs/reference/settings.md")
API = Document("docs/reference/api.md")
PROMISES_PAGE = Document("docs/reference/promises.md")

Schema = dict[str, Any]


def settings_table() -> str:
    """The table of all settings that have a description."""
    rows = [
        f"| `SCOPEGATE_{name.upper()}` | {_default(field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
        if field.description
    ]
    return "\n| variable | default | what it is |\n|---|---|---|\n" + "".join(rows)


def api_tables() -> str:
    """A table of routes for each tag, from what the app declares of itself."""
    schema = create_app(Settings(_env_file=None)).openapi()
    routes = [
        (operation["tags"][0], _route(schema, method, path, operation))
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    head = "| route | needs | takes | does | answers |\n|---|---|---|---|---|\n"
    return "".join(
        f"\n## {tag.capitalize()}\n\n{head}" + "".join(row for _, row in rows)
        for tag, rows in groupby(routes, key=lambda route: route[0])
    )


def promises_tables() -> str:
    """Return a table for each subject: every promise with the tests that prove it."""
    places = _places_of_tests()
    head = "| promise | tests |\n|---|---|\n"
    return "".join(
        f"\n## {subject}\n\n{head}"
        + "".join(
            f"| {promise} | {', '.join(_place(test, places) for test in tests)} |\n"
            for promise, tests in promises.items()
        )
        for subject, promises in PROMISES.items()
    )


def generated_part(document: Document) -> str:
    """What stands below the marker."""
    return document.text.partition(MARKER)[2]


def _places_of_tests() -> dict[str, list[str]]:
    """Return the files of each test function, by its name."""
    places: dict[str, list[str]] = {}
    files = [path for name in ("client", "tests") for path in (PROJECT / name).rglob("test_*.py")]
    for path in sorted(files):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                places.setdefault(node.name, []).append(str(path.relative_to(PROJECT)))
    return places


def _place(test: str, places: dict[str, list[str]]) -> str:
    if test.endswith(".py"):
        assert (PROJECT / test).exists(), f"tests/promises.py names {test}, which does not exist"
        return f"`{test}`"
    found = places.get(test, [])
    assert len(found) == 1, f"tests/promises.py names {test}, which is in {found or 'no file'}"
    return f"`{found[0]}::{test}`"


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{' '.join(default)}`"
    if isinstance(default, Path):
        return f"`{default.relative_to(PROJECT)}` in the checkout"
    if isinstance(default, timedelta):
        return f"`{default.total_seconds():.0f}`"
    return f"`{default}`"


def _route(schema: Schema, method: str, path: str, operation: Schema) -> str:
    cells = [
        f"`{method.upper()} {path}`",
        _needed(operation),
        ", ".join(f"`{name}`" for name in _taken(schema, operation)),
        operation["description"].partition("\n")[0],
        " ".join(sorted(operation["responses"])),
    ]
    return "| " + " | ".join(cells) + " |\n"


def _needed(operation: Schema) -> str:
    if "security" not in operation:
        return "nothing"
    scopes = [scope for way in operation["security"] for each in way.values() for scope in each]
    # Once each: every way to authenticate names them.
    return " ".join(f"`{scope}`" for scope in dict.fromkeys(scopes)) or "any token"


def _taken(schema: Schema, operation: Schema) -> Iterator[str]:
    """What a request may bring beside what its path names; `?`: it may be left out."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            yield parameter["name"] + ("" if parameter.get("required") else "?")
    for content in operation.get("requestBody", {"content": {}})["content"].values():
        body = content["schema"]
        for option in body.get("anyOf", [body]):
            name = option.get("$ref", "").rpartition("/")[2]
            fields = schema["components"]["schemas"][name] if name else option
            for field in fields.get("properties", {}):
                yield field + ("" if field in fields.get("required", ()) else "?")


def _write(document: Document, part: str) -> None:
    by_hand = document.text.partition(MARKER)[0]
    document.path.write_text(by_hand + MARKER + part)
    print(f"Written: {document.path.relative_to(PROJECT)}")


if __name__ == "__main__":
    _write(SETTINGS, settings_table())
    _write(API, api_tables())
    _write(PROMISES_PAGE, promises_tables())
