"""The database URL, as people and hosters write it."""

import pytest

from app.db.engine import normalise_url
from app.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("postgres://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql://u:p@h:5433/n", "postgresql+asyncpg://u:p@h:5433/n"),
        ("postgresql+asyncpg://u@h/n", "postgresql+asyncpg://u@h/n"),
        ("postgresql+psycopg://u@h/n", "postgresql+asyncpg://u@h/n"),
        (
            "postgres://u@h/n?sslmode=require&channel_binding=require",
            "postgresql+asyncpg://u@h/n?ssl=require",
        ),
    ],
)
def test_urls_are_made_fit_for_asyncpg(given: str, normal: str) -> None:
    assert normalise_url(given).render_as_string(hide_password=False) == normal


def test_a_password_from_elsewhere_fills_in_but_does_not_replace() -> None:
    assert normalise_url("postgresql://u@h/n", "p@:/").password == "p@:/"
    assert normalise_url("postgresql://u:mine@h/n", "other").password == "mine"


def test_options_that_asyncpg_does_not_know_are_named() -> None:
    with pytest.raises(ConfigurationError, match="bogus, connect_timeout"):
        normalise_url("postgresql://u@h/n?connect_timeout=3&bogus=1")


@pytest.mark.parametrize(
    "given", ["postgresql://u:hunter2@h:abc/n", "mysql://u:hunter2@h/n", "hunter2", ""]
)
def test_other_urls_are_refused_without_repeating_them(given: str) -> None:
    with pytest.raises(ConfigurationError, match="SCOPEGATE_DATABASE_URL") as caught:
        normalise_url(given)
    assert "hunter2" not in str(caught.value)
