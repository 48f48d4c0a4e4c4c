"""The database URL as people and hosters write it, made fit for asyncpg.

Every option in it is honoured or refused by name. None is dropped in silence.
"""

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import SecretStr
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.errors import ConfigurationError
from app.settings import Settings

DEFAULT_PORT = "5432"
HOST_AND_PORT = re.compile(r"(\[[^]]+\]|[^:]+)(?::(\d+))?")
# What comes before, hosts with commas between them, what comes after.
SEVERAL_HOSTS = re.compile(r"([^:/]+://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)(?=[/?#]|$)(.*)")

LONGEST_HOST = 253
"""Characters of a name in the DNS."""
SESSION_ATTRIBUTES = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERIFYING = {"verify-ca", "verify-full"}
FILES = {"sslrootcert", "sslcert", "sslkey", "sslcrl"}
FOR_ASYNCPG = {"host", "port", "ssl", "target_session_attrs"}
"""Options that asyncpg takes one by one."""
FOR_ITS_DSN = FILES | {
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "application_name",
    "search_path",
    "options",
}
"""Options that asyncpg takes only in a DSN of its own."""
HARMLESS = {"channel_binding": {"disable", "prefer"}, "gssencmode": {"disable", "prefer"}}
"""Options of libpq that asyncpg lacks, with the values that mean to do without."""


def normalise_url(
    given: str, password: str | None = None, *, setting: str = "SCOPEGATE_DATABASE_URL"
) -> URL:
    """Return a URL as hosted Postgres hands it out, made fit for asyncpg: with several hosts too.

    Raises ConfigurationError, without repeating the URL: it may hold a password.
    """
    try:
        url = _with_hosts_apart(given)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"{setting} is no URL: write postgresql://user:password@host/name"
        ) from None
    if url.get_backend_name() not in {"postgres", "postgresql"}:
        raise ConfigurationError(
            f"{setting} must name Postgres: postgresql://user:password@host/name"
        )
    if password and not url.password:
        url = url.set(password=password)
    _check_parts(url, setting)
    query = _for_asyncpg({name: str(value) for name, value in url.query.items()}, setting)
    return url.set(drivername="postgresql+asyncpg", query=query)


def _check_parts(url: URL, setting: str) -> None:
    """Raise ConfigurationError for what no connection can be made with, whatever the server."""
    hosts = str(url.query.get("host") or url.host or "").split(",")
    ports = str(url.query.get("port") or ("" if url.port is None else url.port)).split(",")
    if not all(_is_port(port) for port in ports if port):
        raise ConfigurationError(f"{setting} has a port that is no number from 1 to 65535")
    if not all(_is_host(host) for host in hosts if host):
        raise ConfigurationError(
            f"{setting} has a host that is neither a name, an address nor a folder of sockets"
        )
    parts = [url.username, url.password, url.database, *map(str, url.query.values())]
    if any("\0" in part for part in parts if part):
        raise ConfigurationError(f"{setting} has a NUL (%00), which Postgres can't take")
    if url.password and "," in (url.username or ""):
        # Its first message of SCRAM has the name as it is, where RFC 5802 wants `=2C`.
        raise ConfigurationError(
            f"{setting} has a user with a comma, which Scopegate's driver (asyncpg) can't sign in "
            "by password: rename the role, or let it in without a password"
        )


def _is_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def _is_host(text: str) -> bool:
    """Whether it can be looked up: this does not say that there is such a host."""
    if text.startswith("/"):
        return "\0" not in text
    try:
        if ":" in text:
            ipaddress.IPv6Address(text)
        # What Python makes of a name before it asks the DNS.
        return len(text.encode("idna")) <= LONGEST_HOST and re.search(r"[\0\s/]", text) is None
    except ValueError:
        return False


def _for_asyncpg(query: dict[str, str], setting: str) -> dict[str, str]:
    """Return libpq's options in asyncpg's form. Raises ConfigurationError for any it can't have."""
    for name, harmless in HARMLESS.items():
        if query.pop(name, "prefer") not in harmless:
            raise ConfigurationError(
                f"{setting} demands {name}, which Scopegate's driver (asyncpg) does not have: take "
                f"{name} out, and let sslmode=verify-full and sslrootcert prove the server"
            )
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    if query.get("ssl", "prefer") not in SSL_MODES:
        raise ConfigurationError(f"{setting} has an sslmode that is none of {', '.join(SSL_MODES)}")
    if query.get("target_session_attrs", "any") not in SESSION_ATTRIBUTES:
        raise ConfigurationError(
            f"{setting} has target_session_attrs that are none of {', '.join(SESSION_ATTRIBUTES)}"
        )
    if "connect_timeout" in query:
        # Whole seconds; libpq takes 0 for ever.
        query["timeout"] = query.pop("connect_timeout")
        if not re.fullmatch("[1-9][0-9]{0,4}", query["timeout"]):
            raise ConfigurationError(
                f"{setting} has a connect_timeout that is no whole number of seconds from 1 on"
            )
    if unknown := sorted(query.keys() - FOR_ASYNCPG - FOR_ITS_DSN - {"timeout"}):
        raise ConfigurationError(
            f"{setting} has options that are not understood: {', '.join(unknown)}. Take them out"
        )
    apart = {name: query.pop(name) for name in sorted(FOR_ITS_DSN & query.keys())}
    for name in sorted(FILES & apart.keys()):
        _check_file(name, apart[name], setting)
    if apart:
        query["dsn"] = f"postgresql://?{urlencode(apart)}"
    return query


def _check_file(name: str, path: str, setting: str) -> None:
    if name == "sslrootcert" and path == "system":
        raise ConfigurationError(
            f"{setting} has sslrootcert=system, which Scopegate's driver (asyncpg) does not have: "
            "name the system's file, such as /etc/ssl/certs/ca-certificates.crt"
        )
    if not os.access(path, os.R_OK) or not Path(path).is_file():
        raise ConfigurationError(f"{setting} has {name}={path}, which is no file that can be read")


def options_of(url: URL) -> dict[str, str]:
    """Return the options that a normalised URL holds for asyncpg's DSN."""
    return dict(parse_qsl(urlsplit(str(url.query.get("dsn", ""))).query))


def shown_url(url: URL) -> str:
    """Return a normalised URL for people: no password and no key's password is part of it."""
    # By default it is rendered with stars for the password.
    return url.set(drivername="postgresql").difference_update_query(["dsn"]).render_as_string()


def unproven_hosts(url: URL) -> list[str]:
    """Return the hosts on the network that could be other servers: TLS does not prove them.

    An attacker on the way could read and change all that is asked of the database.
    """
    options = options_of(url)
    mode = str(url.query.get("ssl") or os.environ.get("PGSSLMODE", ""))
    authority = options.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if mode in VERIFYING or (mode == "require" and authority):
        return []
    hosts = str(url.query.get("host") or url.host or "").split(",")
    return [host for host in hosts if host and not _is_here(host)]


def _is_here(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _with_hosts_apart(given: str) -> URL:
    """The URL parsed; several hosts, before the path or by libpq's `?host=`, each with its port."""
    given.encode()
    scheme, separator, rest = given.partition("://")
    # RFC 3986 §3.1: a scheme may have capital letters.
    given = scheme.lower() + separator + rest
    several = SEVERAL_HOSTS.fullmatch(given)
    pairs = [HOST_AND_PORT.fullmatch(each) for each in several[2].split(",")] if several else []
    # A password may hold a comma, and a slash that is not escaped.
    if several and "@" in (several[3] if None in pairs else several[3].partition("?")[0]):
        several = None
    url = make_url(several[1] + several[3] if several else given)
    # Given twice, the last one counts, as it does for libpq.
    url = url.set(query={n: v if isinstance(v, str) else v[-1] for n, v in url.query.items()})
    if several:
        hosts = [pair[1].strip("[]") if pair else "" for pair in pairs]
        ports = [pair[2] if pair else "" for pair in pairs]
    elif "," in (listed := str(url.query.get("host", ""))):
        hosts, ports = listed.split(","), str(url.query.get("port", "")).split(",")
        # libpq: one port is that of all hosts.
        ports = ports * len(hosts) if len(ports) == 1 else ports
    else:
        return url
    ports = [port or DEFAULT_PORT for port in ports]
    if len(hosts) != len(ports) or not all(hosts):
        raise ValueError
    return url.update_query_dict({"host": ",".join(hosts), "port": ",".join(ports)})


def configured_url(given: SecretStr, settings: Settings, *, setting: str) -> URL:
    """Return a URL out of the settings, with the password that has a setting of its own."""
    password = settings.database_password
    return normalise_url(
        given.get_secret_value(),
        password.get_secret_value() if password else None,
        setting=setting,
    )


def unproven_servers(settings: Settings) -> dict[str, list[str]]:
    """Return in production the hosts that TLS does not prove, by the setting that names them."""
    given = {
        "SCOPEGATE_DATABASE_URL": settings.database_url,
        "SCOPEGATE_LISTEN_DATABASE_URL": settings.listen_database_url,
    }
    found = {
        setting: unproven_hosts(configured_url(url, settings, setting=setting))
        for setting, url in given.items()
        if url is not None and settings.environment == "production"
    }
    return {setting: hosts for setting, hosts in found.items() if hosts}
