"""Settings of mail: the server that takes it, and whom it is from."""

from dataclasses import dataclass
from email.headerregistry import Address, AddressHeader
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from app.env_file import EnvFileSettings

Tls = Literal["starttls", "tls", "off"]
_PORTS: dict[Tls, int] = {"starttls": 587, "tls": 465, "off": 25}
_SHAPE = "write smtp://user:password@host:587 or smtps://user:password@host:465"
_LONGEST_FROM = 320


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """The server that takes the mails, and how to reach it."""

    host: str
    port: int
    tls: Tls
    username: str | None
    password: SecretStr | None

    def __str__(self) -> str:
        """Return host and port, for people: never the password."""
        return f"{self.host}:{self.port}"


def smtp_server(url: str) -> SmtpServer:
    """Return the server of this URL. Raises ValueError, which repeats nothing of the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(_SHAPE) from None
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or port == 0:
        raise ValueError(_SHAPE)
    if parts.path not in {"", "/"} or parts.fragment:
        raise ValueError(f"there is no path or fragment in it: {_SHAPE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if options not in ({}, {"tls": "off"}):
        raise ValueError("tls=off is the only option")
    tls: Tls = "tls" if parts.scheme == "smtps" else "starttls"
    if options:
        if parts.scheme == "smtps" or not _is_loopback(parts.hostname):
            raise ValueError("tls=off is for smtp:// to this machine alone: localhost, 127.0.0.1")
        tls = "off"
    username, password = parts.username, parts.password
    if (username is None) != (password is None):
        raise ValueError(f"a user needs a password, and the reverse: {_SHAPE}")
    return SmtpServer(
        host=parts.hostname,
        port=port or _PORTS[tls],
        tls=tls,
        username=None if username is None else unquote(username),
        password=None if password is None else SecretStr(unquote(password)),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def sender_address(text: str) -> Address:
    """Return the one address of a From header. Raises ValueError."""
    if text.isprintable() and len(text) <= _LONGEST_FROM:
        # The parser collects what is wrong in place of raising it.
        found: dict[str, object] = {"defects": []}
        AddressHeader.parse(text, found)
        groups = found["groups"]
        assert isinstance(groups, list)
        addresses = [address for group in groups for address in group.addresses]
        if len(addresses) == 1 and not found["defects"]:
            address = addresses[0]
            assert isinstance(address, Address)
            if address.username and address.domain and address.addr_spec.isascii():
                return address
    raise ValueError("write one address: no-reply@shop.example, or Shop <no-reply@shop.example>")


def _check_smtp_url(value: SecretStr) -> SecretStr:
    smtp_server(value.get_secret_value())
    return value


def _check_sender(value: str) -> str:
    sender_address(value)
    return value


class MailSettings(EnvFileSettings):
    """What an operator can choose about mail."""

    smtp_url: Annotated[
        SecretStr | None,
        AfterValidator(lambda value: value and _check_smtp_url(value)),
        Field(
            description="The server that takes mails: `smtp://user:password@host:587` (STARTTLS), "
            "`smtps://user:password@host:465`; `?tls=off` for this machine alone. Unset: "
            "development logs mails, production sends none."
        ),
    ] = None
    smtp_url_file: Path | None = None
    mail_from: Annotated[
        str | None,
        AfterValidator(lambda value: value and _check_sender(value)),
        Field(
            description="Whom mails are from: `no-reply@shop.example` or "
            "`Shop <no-reply@shop.example>`. Needed with `SCOPEGATE_SMTP_URL`."
        ),
    ] = None

    @property
    def smtp_server(self) -> SmtpServer | None:
        """The server that takes mails; None where none is set."""
        return smtp_server(self.smtp_url.get_secret_value()) if self.smtp_url else None
