"""The code of the service stays in pieces that a reader can hold: files, functions, parameters."""

import ast
from collections.abc import Iterator

import pytest

from app.settings import PROJECT

LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 50
"""From `def` to its end, with the docstring and without decorators."""
PARAMETERS = 6
"""With `self` and `cls`."""


def too_large(name: str, code: str) -> Iterator[str]:
    """Yield what is larger in this file than it may be."""
    lines = len(code.splitlines())
    if lines > LINES_OF_A_FILE:
        yield f"{name}: {lines} lines"
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            assert node.end_lineno
            lines = node.end_lineno - node.lineno + 1
            if lines > LINES_OF_A_FUNCTION:
                yield f"{name}:{node.lineno}: a function of {lines} lines"
            if (count := parameters(node.args)) > PARAMETERS:
                yield f"{name}:{node.lineno}: {count} parameters"


def parameters(signature: ast.arguments) -> int:
    """Return how many there are, of every kind."""
    named = [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]
    return len(named) + sum(each is not None for each in (signature.vararg, signature.kwarg))


def test_no_file_no_function_and_no_list_of_parameters_in_app_is_too_large() -> None:
    found = [
        complaint
        for path in sorted((PROJECT / "app").rglob("*.py"))
        for complaint in too_large(str(path.relative_to(PROJECT)), path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        ("x = 1\n" * 300, "x = 1\n" * 301),
        ("def f():\n" + "    x = 1\n" * 49, "def f():\n" + "    x = 1\n" * 50),
        ("async def f():\n" + "    x = 1\n" * 49, "async def f():\n" + "    x = 1\n" * 50),
        ("def f(a, b, c, d, e, f): ...", "def f(a, b, c, d, e, f, g): ..."),
        ("def f(a, /, b, *c, d, **e): ...", "def f(a, /, b, *c, d, e, f, **g): ..."),
        (
            "class A:\n    async def f(self, *, b, c, d, e, f): ...",
            "class A:\n    async def f(self, *, b, c, d, e, f, g): ...",
        ),
        ("f = lambda a, b, c, d, e, f: 1", "f = lambda a, b, c, d, e, f, g: 1"),
    ],
)
def test_one_more_than_is_allowed_is_found(allowed: str, refused: str) -> None:
    assert list(too_large("file.py", allowed)) == []
    assert len(list(too_large("file.py", refused))) == 1
