"""Types of settings that check themselves, with errors that say what to do."""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

MINIMUM_SECRET_LENGTH = 32
MINIMUM_DISTINCT_CHARACTERS = 8
LONGEST_BRAND = 64
PLACEHOLDER = re.compile("change.?(me|this|it)|placeholder", re.IGNORECASE)
# FastAPI's tutorial publishes this one.
PUBLISHED_SECRETS = {"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"}
HOW_TO_MAKE_A_SECRET = (
    'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
)
# As a browser sends it, so without a path. Hybrid apps and extensions have schemes of their own:
# capacitor://localhost, chrome-extension://…, whose hosts can have capital letters.
ORIGIN = re.compile(
    r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]*)?"
    r"|(?!(https?|wss?|ftp|file):)[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+(:[0-9]+)?"
)
DEFAULT_PORT = re.compile(r"https://.*:443|http://.*:80")
DOCUMENT_HOST = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:]+\])(:[1-9][0-9]*)?")
HOST = re.compile(r"(\*\.)?[a-z0-9.-]+|\[[0-9a-f:]+\]")
# Clients compare issuers byte by byte, so nothing in it that a URL library would write otherwise:
# no query and no fragment (RFC 8414 §2), user name, percent-escape, empty segment or dots alone.
ISSUER = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"
    r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~!$&'()*+,;=:@-]+)*"
)
NO_HOST = re.compile(r"https?:/*+([:?#].*)?", re.IGNORECASE)
# Ends of lines and bytes that are not UTF-8 are among them.
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def split_secrets(value: SecretStr | None) -> list[str]:
    """Return the secrets of a comma-separated setting, the encrypting one first."""
    return _words(value.get_secret_value()) if value else []


def secrets_from_files(values: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    """Read those of these settings that have no value of their own, and a file in `*_FILE`."""
    return {
        name: _read(name, path)
        for name in names
        if (path := values.get(f"{name}_file")) and not values.get(name)
    }


def _read(name: str, path: object) -> str:
    try:
        return Path(str(path)).read_text().strip()
    except OSError as error:
        raise ValueError(
            f"SCOPEGATE_{name.upper()}_FILE: {path} can't be read "
            f"({error.strerror}); make it readable for this user"
        ) from error
    except UnicodeDecodeError:
        raise ValueError(
            f"SCOPEGATE_{name.upper()}_FILE: {path} is not UTF-8; save it as UTF-8"
        ) from None


def _words(text: str) -> list[str]:
    return [word for each in text.split(",") if (word := each.strip())]


def _split(value: object) -> object:
    return _words(value) if isinstance(value, str) else value


def _read_networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return tuple(map(ip_network, _words(value)))
    except ValueError as error:
        raise ValueError(f"{error}; write addresses and networks: 10.0.0.0/8, ::1") from None


def _read_scopes(value: object) -> object:
    found = tuple(value.split()) if isinstance(value, str) else value
    if isinstance(found, tuple) and "admin" in found:
        raise ValueError("never admin: grant it to a person by name")
    return found


def _read_seconds(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=float(str(value)))
    except (ValueError, OverflowError):
        raise ValueError("a number of seconds is needed, like 900") from None


def _refuse_parts_of_a_second(value: timedelta) -> timedelta:
    if value.microseconds:
        raise ValueError("whole seconds are needed, like 900")
    return value


def _refuse_weak_secrets(value: SecretStr) -> SecretStr:
    for key in split_secrets(value):
        if len(key) < MINIMUM_SECRET_LENGTH:
            raise ValueError(
                f"a secret of {len(key)} characters is too weak, {MINIMUM_SECRET_LENGTH} are "
                f"needed; {HOW_TO_MAKE_A_SECRET}"
            )
        if _can_be_guessed(key):
            raise ValueError(f"this secret can be guessed; {HOW_TO_MAKE_A_SECRET}")
    return value


def _can_be_guessed(secret: str) -> bool:
    """Whether it is known, a placeholder, or mostly one part again and again: 123412341234."""
    repeats = any(secret.startswith(secret[at:]) for at in range(1, len(secret) // 2 + 1))
    return (
        repeats
        or len(set(secret)) < MINIMUM_DISTINCT_CHARACTERS
        or PLACEHOLDER.search(secret) is not None
        or secret in PUBLISHED_SECRETS
    )


def is_any_address(host: str) -> bool:
    """Whether to listen there is to listen on every address: `0.0.0.0`, `::`."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _without_brackets(value: str) -> str:
    return value[1:-1] if value.startswith("[") and value.endswith("]") else value


def _refuse_control_characters(value: str) -> str:
    if CONTROL_CHARACTERS.search(value):
        raise ValueError("it has control characters or is not UTF-8: take them out")
    return value


def _refuse_what_is_no_issuer(value: str) -> str:
    if NO_HOST.fullmatch(value):
        raise ValueError("the issuer has no host: https://auth.example")
    if value.endswith("/"):
        raise ValueError("write the issuer without the slash at its end: https://auth.example")
    if not ISSUER.fullmatch(value) or not _has_a_port_that_exists(value):
        raise ValueError(
            "the issuer is a URL, with a path at most: https://auth.example, "
            "https://example.com/auth; no query, fragment, user name, spaces or percent-escapes"
        )
    return value


def _has_a_port_that_exists(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _refuse_what_is_no_origin(value: tuple[str, ...]) -> tuple[str, ...]:
    # Not "*": a visitor's browser may reach a service that the page's author can't. Nor "null",
    # which is the origin of any page that wants it.
    if not all(map(ORIGIN.fullmatch, value)):
        raise ValueError(
            "origins look like this: https://app.example,http://localhost:3000,"
            "capacitor://localhost"
        )
    # A browser would send it otherwise, so it would match no page.
    if any(map(DEFAULT_PORT.fullmatch, value)):
        raise ValueError(
            "browsers leave out port 443 of https and port 80 of http: write https://app.example"
        )
    for origin in value:
        if (shortest := _shortest(origin)) != origin:
            raise ValueError(f"browsers write this address as {shortest}")
    if not all(map(_has_a_port_that_exists, value)):
        raise ValueError("a port is a number from 1 to 65535: http://localhost:3000")
    return value


def _shortest(origin: str) -> str:
    """Return the origin with its IPv6 address as browsers write it."""
    before, bracket, rest = origin.partition("[")
    address, _, port = rest.partition("]")
    if not bracket:
        return origin
    try:
        return f"{before}[{IPv6Address(address).compressed}]{port}"
    except ValueError:
        raise ValueError("an IPv6 address looks like this: http://[::1]:3000") from None


def _refuse_what_is_no_host(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(HOST.fullmatch, value)):
        raise ValueError("hosts are names without a port: auth.example,*.example")
    return value


def _refuse_what_is_no_document_host(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(map(DOCUMENT_HOST.fullmatch, value)):
        raise ValueError("hosts are names, or names and ports: app.example,127.0.0.1:8080")
    return value


def _refuse_what_is_no_name(value: str) -> str:
    if not value.isprintable() or not 0 < len(value.strip()) <= LONGEST_BRAND:
        raise ValueError(f"a name is one line of at most {LONGEST_BRAND} characters")
    return value.strip()


Delay = Annotated[timedelta, BeforeValidator(_read_seconds), Field(ge=timedelta(0))]
"""Written as seconds; `0` is none."""
Seconds = Annotated[Delay, Field(gt=timedelta(0))]
WholeDelay = Annotated[Delay, AfterValidator(_refuse_parts_of_a_second)]
WholeSeconds = Annotated[Seconds, AfterValidator(_refuse_parts_of_a_second)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[Words, AfterValidator(_refuse_what_is_no_origin)]
SignUpScopes = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_scopes)]
Hosts = Annotated[Words, AfterValidator(_refuse_what_is_no_host)]
DocumentHosts = Annotated[Words, AfterValidator(_refuse_what_is_no_document_host)]
ListenHost = Annotated[str, AfterValidator(_without_brackets)]
Networks = Annotated[
    tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_read_networks)
]
Secrets = Annotated[SecretStr, AfterValidator(_refuse_weak_secrets)]
Issuer = Annotated[str, AfterValidator(_refuse_what_is_no_issuer)]
Audience = Annotated[str, AfterValidator(_refuse_control_characters)]
BrandName = Annotated[str, AfterValidator(_refuse_what_is_no_name)]
