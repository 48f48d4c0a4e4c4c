"""A folder for the embedded Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded import server_runs
from tests.support.processes import eventually


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    if home.exists():
        eventually(lambda: not server_runs(home))
