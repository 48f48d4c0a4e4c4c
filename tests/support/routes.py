"""The routes that the service's OpenAPI document names, with paths that can be asked for."""

import re
from collections.abc import Iterator
from typing import Any

from app.main import create_app
from app.settings import Settings

ID = "00000000-0000-0000-0000-000000000000"
IN_PATHS = {"scope": "read:items", "name": "x:y"}
"""What stands in a path for a parameter that is no id."""


def filled(path: str) -> str:
    """The path with a value for each of its parameters: for an id, one that nothing has."""
    return re.sub(r"\{(\w+)\}", lambda match: IN_PATHS.get(match[1], ID), path)


def protected_with_body() -> Iterator[tuple[str, str, list[str]]]:
    """Each operation that takes a body and needs a principal: method, path, required scopes."""
    paths: dict[str, dict[str, Any]] = create_app(Settings(_env_file=None)).openapi()["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            if "requestBody" in operation and "security" in operation:
                scopes = {
                    scope
                    for way in operation["security"]
                    for each in way.values()
                    for scope in each
                }
                yield method.upper(), filled(path), sorted(scopes)
