"""What one process holds, on a machine where nothing is set."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db.engine import open_engine
from app.db.migrating import migrator_settings, upgrade
from app.errors import ConfigurationError
from app.runtime import Runtime
from app.service_secrets import development_secret
from app.settings import Settings


def test_development_makes_itself_one_secret_that_only_its_user_reads(tmp_path: Path) -> None:
    home, found = tmp_path / "home", []
    threads = [
        threading.Thread(target=lambda: found.append(development_secret(home))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert [path.name for path in home.iterdir()] == ["secret_keys"]
    assert (home / "secret_keys").stat().st_mode & 0o777 == 0o600
    assert Settings(_env_file=None, secret_keys=found[0])


@pytest.mark.system
async def test_without_a_database_url_it_runs_on_the_embedded_postgres(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path / "home")
    with pytest.raises(ConfigurationError, match="scopegate migrate"):
        async with Runtime.open(settings):
            pass
    assert not settings.home.exists()
    async with open_engine(migrator_settings(settings), creating=True) as engine:
        await upgrade(engine)
    async with Runtime.open(settings) as runtime:
        async with runtime.sessions() as session:
            assert await session.scalar(text("SHOW listen_addresses")) == ""
        kid = runtime.keyring.signing(runtime.now()).kid
    async with Runtime.open(settings) as runtime:
        assert runtime.keyring.signing(runtime.now()).kid == kid
