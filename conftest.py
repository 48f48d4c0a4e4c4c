"""Options of the command line, for the tests of the service and of the client package alike."""

import pytest

TOKEN_KINDS = ("all", "formats", "others", "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--token-kinds`. What each means is in tests/conftest.py."""
    parser.addoption(
        "--token-kinds",
        choices=TOKEN_KINDS,
        default="all",
        help="for tests of every token kind: all, one of each format, the others, or the default",
    )
