"""A folder for the embedded Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import eventually
from tests.support.embedded import server_runs


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    if home.exists():
        eventually(lambda: not server_runs(home))
