"""`.env`: a line that can't be read stops the start, because it may have switched something off."""

import io
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream
from dotenv.variables import Atom, Variable, parse_variables
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.sources.utils import parse_env_vars

from app.errors import ConfigurationError

PREFIX = "SCOPEGATE_"
_SINGLE_QUOTED = re.compile(r"\s*(export\s+)?[^=\s]+\s*=\s*'")
_QUOTED = re.compile(r"\s*(export\s+)?[^=\s]+\s*=\s*['\"]")
# Beside tab and line feed. Some of them look like the end of a line, which they are not.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SETTING_IN_LINE = re.compile(rf"\b{PREFIX}\w+\s*=", re.IGNORECASE)
_SETTING_AT_START = re.compile(rf"\n\s*(export\s+)?{PREFIX}\w+\s*=", re.IGNORECASE)

# python-dotenv only warns of what is refused here.
logging.getLogger("dotenv").setLevel(logging.ERROR)


class EnvFileSettings(BaseSettings):
    """Settings from the environment and from an `.env` file of which no line is ignored."""

    # pydantic-settings reads the file once by itself, before `read_env_file` does. With this
    # encoding it can't fail at what is not UTF-8: that is refused here, with its line.
    model_config = SettingsConfigDict(env_file_encoding="latin-1")

    def __init__(self, **values: Any) -> None:
        """Read the settings. Raises ConfigurationError with the line of `.env` that is wrong."""
        try:
            super().__init__(**values)
        except OSError as error:
            raise ConfigurationError(f"{error.filename} can't be read: {error.strerror}") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the file by `read_env_file`."""
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        env_file = _EnvFile(settings_cls, env_file=dotenv_settings.env_file)
        return init_settings, env_settings, env_file, file_secret_settings


class _EnvFile(DotEnvSettingsSource):
    def _read_env_files(self) -> Mapping[str, str | None]:
        # pydantic-settings ignores what is no file, such as a folder or a link that leads nowhere.
        path = self.env_file
        if isinstance(path, (str, Path)) and os.path.lexists(path):
            if not Path(path).exists():
                raise ConfigurationError(f"{path} is a link that leads nowhere")
            if Path(path).is_dir():
                raise ConfigurationError(f"{Path(path).resolve()} is a folder: it must be a file")
        return super()._read_env_files()

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        values = read_env_file(file_path)
        return parse_env_vars(values, self.case_sensitive, self.env_ignore_empty)


def read_env_file(path: Path) -> dict[str, str | None]:
    """Return the file's variables. Raises ConfigurationError with the line that can't be read.

    Each name stands in it once. `${NAME}` is another variable's value, and must be set, except in
    single quotes.
    """
    values: dict[str, str | None] = {}
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(_text(path))):
        name, line = binding.key, _line(binding)
        problem = _problem(binding) or _undefined(binding, values)
        if name is not None and (first := lines.setdefault(_same(name), line)) != line:
            problem = problem or f"{name} has a value in line {first} already: keep one of the two"
        if problem:
            raise _refusal(path, line, problem)
        if name is not None:
            values[name] = _value(binding, values)
    return values


def _text(path: Path) -> str:
    """The file's text, with line feeds at the ends of its lines."""
    found = path.read_bytes()
    try:
        text = re.sub("\r\n?", "\n", found.decode())
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", found[: error.start])) + 1
        raise _refusal(path, line, "this is not UTF-8: save the file as UTF-8") from None
    if control := _CONTROL_CHARACTER.search(text):
        line = text[: control.start()].count("\n") + 1
        character = f"U+{ord(control[0]):04X}"
        raise _refusal(path, line, f"this has a control character, {character}: take it out")
    return text


def _refusal(path: Path, line: int, problem: str) -> ConfigurationError:
    # Not the line itself: it may hold a secret.
    return ConfigurationError(f"{path.resolve()}, line {line}: {problem}")


def _same(name: str) -> str:
    """The name by which it counts: that of a setting may have small letters."""
    return name.upper() if name.upper().startswith(PREFIX) else name


def _problem(binding: Binding) -> str | None:
    if binding.error:
        return "this can't be read: write NAME=value, and close each quotation mark"
    if binding.key and binding.value is None and binding.key.upper().startswith(PREFIX):
        return f"{binding.key} has no value: write {binding.key}=value"
    quoted = _QUOTED.match(binding.original.string)
    hidden = _SETTING_AT_START if quoted else _SETTING_IN_LINE
    if hidden.search(binding.value or ""):
        return (
            f"the value of {binding.key} has another setting in it: give each setting a line of "
            "its own, and close each quotation mark"
        )
    return None


def _undefined(binding: Binding, before: Mapping[str, str | None]) -> str | None:
    known = {**os.environ, **before}
    for part in _parts(binding):
        if isinstance(part, Variable):
            if known.get(part.name) is None and part.default is None:
                return (
                    f"${{{part.name}}} is set neither in a line before nor in the environment: set "
                    f"it, write ${{{part.name}:-default}}, or put the value in single quotes"
                )
        elif "${" in part.resolve({}):
            return (
                "this has a ${ that is not understood: write ${NAME} or ${NAME:-default}, or put "
                "the value in single quotes"
            )
    return None


def _line(binding: Binding) -> int:
    """The line that the text begins in: the parser counts from the empty lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _parts(binding: Binding) -> list[Atom]:
    """The parts of a value that is not in single quotes: text, and variables to be filled in."""
    if binding.value is None or _SINGLE_QUOTED.match(binding.original.string):
        return []
    return list(parse_variables(binding.value))


def _value(binding: Binding, before: Mapping[str, str | None]) -> str | None:
    known = {**os.environ, **before}
    parts = _parts(binding)
    return "".join(part.resolve(known) for part in parts) if parts else binding.value
