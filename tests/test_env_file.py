"""`.env`: what stands in it counts, or the service refuses to start. No line is ignored."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.env_file import read_env_file
from app.errors import ConfigurationError
from app.settings import Settings
from tests.support.processes import ROOT


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the settings are read from."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".env"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("SCOPEGATE_PASSWORD_GRANT: false\n", 1),
        ("SCOPEGATE_AUDIENCE='https://api.example\n", 1),
        ('SCOPEGATE_PORT=8001\n\n\nSCOPEGATE_AUDIENCE="hunter2\n', 4),
        ("# a comment\n\nSCOPEGATE_PASSWORD_GRANT false", 3),
        ("set SCOPEGATE_PASSWORD_GRANT=false\n", 1),
        ("SCOPEGATE_AUDIENCE='a\nb'\nSCOPEGATE_PASSWORD_GRANT->false\n", 3),
        ("SCOPEGATE_AUDIENCE='it's'\r\n", 1),
        ("A=b\r\n<<<<<<< HEAD\r\n", 2),
        ("SCOPEGATE_PORT=1\nSCOPEGATE_PASSWORD_GRANT\n", 2),
        ("export scopegate_password_grant\n", 1),
        ("=false\n", 1),
        ("SCOPEGATE_AUDIENCE='hunter2\nSCOPEGATE_PORT='8001'\n", 1),
    ],
)
def test_a_line_that_cant_be_read_is_refused_with_its_place(
    env_file: Path, text: str, line: int, caplog: pytest.LogCaptureFixture
) -> None:
    env_file.write_bytes(text.encode())
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert str(caught.value).startswith(f"{env_file}, line {line}: ")
    assert "hunter2" not in str(caught.value)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "audience"),
    [
        ("SCOPEGATE_AUDIENCE=a", "a"),
        ("SCOPEGATE_AUDIENCE = a # why", "a"),
        ("\ufeffSCOPEGATE_AUDIENCE=a\r\n", "a"),
        ("scopegate_audience=a\n\n# the end", "a"),
        ('export SCOPEGATE_AUDIENCE="a"', "a"),
        ("SCOPEGATE_AUDIENCE=", "http://127.0.0.1:8000"),
        ("SCOPEGATE_AUDIENCE='${OTHER}'", "${OTHER}"),
        ("export SCOPEGATE_AUDIENCE = 'a${OTHER}b' # why", "a${OTHER}b"),
        ("SCOPEGATE_AUDIENCE='$OTHER${OTHER:-x}'", "$OTHER${OTHER:-x}"),
        ("SCOPEGATE_AUDIENCE='a\\'${OTHER}'", "a'${OTHER}"),
        ("SCOPEGATE_AUDIENCE=${OTHER}", "elsewhere"),
        ('SCOPEGATE_AUDIENCE="a ${OTHER}"', "a elsewhere"),
        ("SCOPEGATE_AUDIENCE=a${NONE:-b}c", "abc"),
        ("BASE='${OTHER}'\nSCOPEGATE_AUDIENCE=${BASE}/x", "${OTHER}/x"),
        ("BASE=${OTHER}/y\nSCOPEGATE_AUDIENCE=${BASE}", "elsewhere/y"),
    ],
)
def test_what_can_be_read_counts_and_single_quotes_keep_it_as_it_is(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, text: str, audience: str
) -> None:
    monkeypatch.setenv("OTHER", "elsewhere")
    env_file.write_bytes(text.encode())
    assert Settings().token_audience == audience


REFUSED = {
    "undefined": [
        ("SCOPEGATE_DATABASE_URL=${NOPE}", 1, "${NOPE} is set neither"),
        ("\nSCOPEGATE_TRUSTED_HOSTS=${NOPE}\n", 2, "${NOPE} is set neither"),
        ('A=b\nSCOPEGATE_AUDIENCE="https://${NOPE}/x"', 2, "${NOPE} is set neither"),
        ("SCOPEGATE_AUDIENCE=${OTHER}${NOPE}", 1, "${NOPE} is set neither"),
        ("SCOPEGATE_AUDIENCE=${NOPE}\nNOPE=x", 1, "${NOPE} is set neither"),
        ("NOPE\nSCOPEGATE_AUDIENCE=${NOPE}", 2, "${NOPE} is set neither"),
        ("BASE=${NOPE}\nSCOPEGATE_AUDIENCE=${BASE}", 1, "${NOPE} is set neither"),
        ("SCOPEGATE_AUDIENCE=${}", 1, "${} is set neither"),
        ("SCOPEGATE_AUDIENCE=${OTHER", 1, "a ${ that is not understood"),
        ("SCOPEGATE_AUDIENCE=${OTHER:?why}", 1, "a ${ that is not understood"),
    ],
    "twice": [
        ("SCOPEGATE_PASSWORD_GRANT=false\nSCOPEGATE_PASSWORD_GRANT=\n", 2, "in line 1 already"),
        ("SCOPEGATE_PORT=1\n\nexport scopegate_port='1'\n", 3, "in line 1 already"),
        ("A=1\n# A=3\nB=2\nA=1\nSCOPEGATE_AUDIENCE=${A}", 4, "A has a value in line 1 already"),
    ],
    "two in a line": [
        ("SCOPEGATE_AUDIENCE=x SCOPEGATE_PASSWORD_GRANT=false", 1, "another setting in it"),
        ("\nSCOPEGATE_AUDIENCE=x\tscopegate_password_grant = false", 2, "another setting in it"),
        ("SCOPEGATE_AUDIENCE=x;SCOPEGATE_PASSWORD_GRANT=false", 1, "another setting in it"),
        ("SCOPEGATE_AUDIENCE=x\u00a0SCOPEGATE_PASSWORD_GRANT=false", 1, "another setting in it"),
        ("A=x SCOPEGATE_PASSWORD_GRANT=false", 1, "another setting in it"),
        ('SCOPEGATE_AUDIENCE="x\nSCOPEGATE_PORT=1\nA=y"', 1, "another setting in it"),
    ],
    "control characters": [
        ("SCOPEGATE_PORT=1\nSCOPEGATE_AUDIENCE=a\0b", 2, "a control character, U+0000"),
        ("# \0\nSCOPEGATE_AUDIENCE=a", 1, "a control character, U+0000"),
        ("SCOPEGATE_AUDIENCE=x\x0cSCOPEGATE_PASSWORD_GRANT=false", 1, "character, U+000C"),
        ("# why\x0bSCOPEGATE_PASSWORD_GRANT=false", 1, "character, U+000B"),
        ("A=b\r\n# why\u2028SCOPEGATE_PASSWORD_GRANT=false", 2, "character, U+2028"),
        ("\rSCOPEGATE_AUDIENCE='\x1b[0m'", 2, "character, U+001B"),
    ],
    "not UTF-8": [
        ("SCOPEGATE_AUDIENCE=\udcff", 1, "not UTF-8"),
        ("A=b\r\n\r# \udce9", 3, "not UTF-8"),
    ],
}


@pytest.mark.parametrize(
    ("text", "line", "why"), [each for kind in REFUSED.values() for each in kind]
)
def test_a_line_that_could_mean_something_else_is_refused_with_its_place(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, why: str
) -> None:
    monkeypatch.setenv("OTHER", "elsewhere")
    env_file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert str(caught.value).startswith(f"{env_file}, line {line}: ")
    assert why in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A='a\n${NOPE}'", "a\n${NOPE}"),
        ("A=${NOPE:-}b", "b"),
        ("NOPE=\nA=${NOPE}", ""),
        ("A=a # SCOPEGATE_PORT=1", "a"),
        ('A="a SCOPEGATE_PORT=1"', "a SCOPEGATE_PORT=1"),
        ("A=SCOPEGATE_PORT", "SCOPEGATE_PORT"),
        ("B=1\na=2\nA=$NOPE", "$NOPE"),
        ("A=a\rB=b", "a"),
    ],
)
def test_what_means_one_thing_only_is_read(env_file: Path, text: str, value: str) -> None:
    env_file.write_bytes(text.encode())
    assert read_env_file(env_file)["A"] == value


@pytest.mark.parametrize("kind", ["folder", "link that leads nowhere", "can't be read"])
def test_what_is_no_file_is_refused_and_not_ignored(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "folder":
        env_file.mkdir()
    elif kind == "link that leads nowhere":
        env_file.symlink_to("nowhere")
    else:
        # Root may read every file.
        def refuse(path: Path, **_: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        env_file.touch()
        monkeypatch.setattr("pydantic_settings.sources.providers.dotenv.dotenv_values", refuse)
    with pytest.raises(ConfigurationError, match=rf"\.env.*{kind}"):
        Settings()


def test_the_environment_wins_and_another_file_or_none_can_be_named(
    env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file.write_text("SCOPEGATE_PORT=8001\nSCOPEGATE_AUDIENCE=a\n")
    other = env_file.with_name("other.env")
    other.write_text("SCOPEGATE_PORT=8002\n")
    assert Settings(_env_file=None).port == 8000
    assert Settings(_env_file=other).port == 8002
    monkeypatch.setenv("SCOPEGATE_PORT", "8003")
    assert (Settings().port, Settings().audience) == (8003, "a")
    assert read_env_file(env_file) == {"SCOPEGATE_PORT": "8001", "SCOPEGATE_AUDIENCE": "a"}


@pytest.mark.system
@pytest.mark.parametrize("command", [["serve"], ["user", "list"], ["migrate"]])
def test_every_command_refuses_the_file_in_one_line(env_file: Path, command: list[str]) -> None:
    env_file.write_text("SCOPEGATE_PORT=8001\nSCOPEGATE_PASSWORD_GRANT: false\n")
    done = subprocess.run(
        [sys.executable, "-m", "app", *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"scopegate: {env_file}, line 2: this can't be read")
    assert done.stderr.count("\n") == 1
