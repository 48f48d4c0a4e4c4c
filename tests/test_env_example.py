"""`.env.example` is true: each setting is there, is described as in the code, and can be used."""

from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from app.ops.doctor import unknown_settings
from app.settings import Settings
from tests.conftest import SECRET
from tests.generated_env import FILE, env_example, set_in


def test_the_example_is_what_the_code_says() -> None:
    assert FILE.read_text() == env_example(), "write it anew: python -m tests.generated_env"


def test_as_it_stands_the_example_sets_nothing() -> None:
    assert dotenv_values(FILE) == {}


def test_every_value_of_the_example_can_be_used(tmp_path: Path) -> None:
    copy = tmp_path / ".env"
    copy.write_text(set_in(FILE.read_text()))
    given = dotenv_values(copy)
    (tmp_path / "database-password").write_text("a password")
    own = {
        "SCOPEGATE_SECRET_KEYS": SECRET,
        "SCOPEGATE_DATABASE_PASSWORD_FILE": str(tmp_path / "database-password"),
    }
    assert given.keys() >= own.keys()
    assert unknown_settings(given) == []
    copy.write_text("".join(f"{name}={value}\n" for name, value in (given | own).items()))
    settings = Settings(_env_file=copy)
    assert settings.environment == "production"
    assert settings.database_password
    assert [str(each) for each in settings.trusted_proxies] == ["10.0.0.0/8"]


def test_the_example_holds_no_secret() -> None:
    """A secret that everybody can read is none, so an operator has to make one."""
    secrets = {"SCOPEGATE_SECRET_KEYS", "SCOPEGATE_METRICS_TOKEN"}
    given = dotenv_values(stream=StringIO(set_in(FILE.read_text())))
    assert {name for name, value in given.items() if value == ""} == secrets
