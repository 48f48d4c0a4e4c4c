"""`.env`: a line that can't be read stops the start, because it may have switched something off."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import Binding, parse_stream
from dotenv.variables import parse_variables
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from app.errors import ConfigurationError

PREFIX = "SCOPEGATE_"
_SINGLE_QUOTED = re.compile(r"\s*(export\s+)?[^=\s]+\s*=\s*'")

# python-dotenv only warns of what is refused here.
logging.getLogger("dotenv").setLevel(logging.ERROR)


class EnvFileSettings(BaseSettings):
    """Settings from the environment and from an `.env` file of which no line is ignored."""

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
    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        values = read_env_file(file_path)
        return parse_env_vars(values, self.case_sensitive, self.env_ignore_empty)


def read_env_file(path: Path) -> dict[str, str | None]:
    """Return the file's variables. Raises ConfigurationError with the line that can't be read.

    `${NAME}` is another variable's value, except in single quotes.
    """
    values: dict[str, str | None] = {}
    with path.open(encoding="utf-8") as file:
        for binding in parse_stream(file):
            if problem := _problem(binding):
                raise ConfigurationError(f"{path.resolve()}, line {_line(binding)}: {problem}")
            if binding.key is not None:
                values[binding.key] = _value(binding, values)
    return values


def _problem(binding: Binding) -> str | None:
    # Not the line itself: it may hold a secret.
    if binding.error:
        return "this can't be read: write NAME=value, and close each quotation mark"
    if binding.key and binding.value is None and binding.key.upper().startswith(PREFIX):
        return f"{binding.key} has no value: write {binding.key}=value"
    return None


def _line(binding: Binding) -> int:
    """The line that the text begins in: the parser counts from the empty lines before it."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _value(binding: Binding, before: Mapping[str, str | None]) -> str | None:
    if binding.value is None or _SINGLE_QUOTED.match(binding.original.string):
        return binding.value
    known = {**os.environ, **before}
    return "".join(part.resolve(known) for part in parse_variables(binding.value))
