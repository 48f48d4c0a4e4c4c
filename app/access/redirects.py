"""Redirect URIs: which a client may register, and whether a request's is one of them.

They are compared as strings (RFC 9700 §2.1), except for the port of a loopback address: a program
on a person's own machine takes any that is free (RFC 8252 §7.3).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import urlencode

from app.errors import Refused

MAX_REDIRECT_URI = 2000
"""Characters."""
MAX_REDIRECT_URIS = 20
"""Of one client."""
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

# RFC 3986's characters, without `#` (a fragment) and `*` (which looks like a wildcard).
_REST = r"[A-Za-z0-9\-._~:/?@!$&'()+,;=%]*"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_WEB = re.compile(rf"https://(?P<host>[A-Za-z0-9\-.]+){_PORT}(?:[/?]{_REST})?")
_LOOPBACK = re.compile(
    rf"(?P<start>https?://(?P<host>127\.0\.0\.1|\[::1\]|localhost)){_PORT}"
    rf"(?P<rest>(?:[/?]{_REST})?)"
)
_PRIVATE = re.compile(rf"(?P<scheme>[a-z][a-z0-9+\-]*\.[a-z0-9+\-.]*[a-z0-9]):(?P<rest>{_REST})")


@dataclass(frozen=True, slots=True)
class RedirectUri:
    """A redirect URI that a client may use."""

    uri: str

    @property
    def host(self) -> str:
        """What a person sees of it: the host, or the scheme of an application on a device."""
        if found := _LOOPBACK.fullmatch(self.uri) or _WEB.fullmatch(self.uri):
            return found["host"]
        return self.uri.partition(":")[0]

    @property
    def is_on_device(self) -> bool:
        """Whether any program on a device could take its place: no consent is remembered for it."""
        found = _WEB.fullmatch(self.uri)
        if found is None or _LOOPBACK.fullmatch(self.uri):
            return True
        address = _address_of(found["host"])
        return address is not None and address.is_loopback

    @property
    def form_action(self) -> str:
        """What a Content-Security-Policy must let a form be redirected to.

        Chromium checks each redirect of the chain, and an application may redirect on from where
        it takes the code: so not its own host alone.
        """
        scheme = self.uri.partition(":")[0]
        if _PRIVATE.fullmatch(self.uri):
            return f"{scheme}: https:"
        if self.uri.startswith("http://["):
            # A policy can't name an IPv6 address.
            return "http: https:"
        return "http://127.0.0.1:* http://localhost:* https:" if scheme == "http" else "https:"

    def with_parameters(self, **parameters: str | None) -> str:
        """Return the URI with these parameters added to its query; those of None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        if not given:
            return self.uri
        separator = "&" if "?" in self.uri else "?"
        return self.uri + separator + urlencode(given)


def check_redirect_uris(uris: Iterable[str]) -> list[str]:
    """Return the URIs, each once, if a client may register them all. Raises Refused."""
    found = list(dict.fromkeys(uris))
    if len(found) > MAX_REDIRECT_URIS:
        raise Refused(f"A client has at most {MAX_REDIRECT_URIS} redirect URIs of a kind.")
    for uri in found:
        if len(uri) > MAX_REDIRECT_URI or not _is_redirect_uri(uri):
            raise Refused(
                "A redirect URI is https, http on 127.0.0.1, [::1] or localhost, or has a "
                "private-use scheme with a dot. It has no fragment, no user and no wildcard."
            )
    return found


def _is_redirect_uri(uri: str) -> bool:
    if _PRIVATE.fullmatch(uri):
        return "@" not in _authority(uri)
    found = _LOOPBACK.fullmatch(uri) or _WEB.fullmatch(uri)
    return found is not None and int(found["port"] or 0) < 1 << 16 and _is_host(found["host"])


def _is_host(host: str) -> bool:
    """Whether a browser takes the host for what it looks like, and not for an address."""
    last = host.rpartition(".")[2]
    if host in LOOPBACK_HOSTS or not (last == "" or last[0].isdigit()):
        return True
    # `127.1`, `0x7f.1` and `2130706433` are addresses too.
    return _address_of(host) is not None


def _address_of(host: str) -> IPv4Address | None:
    try:
        return IPv4Address(host)
    except ValueError:
        return None


def _authority(uri: str) -> str:
    rest = uri.partition(":")[2]
    return re.split("[/?]", rest[2:])[0] if rest.startswith("//") else ""


def addresses(uris: Iterable[str], *, issuer: str) -> list[str]:
    """Return the URIs as requests name them. Those of our own pages begin with `/`: they are below
    the issuer, and on loopback below each name of that host.
    """
    found: list[str] = []
    for uri in uris:
        if not uri.startswith("/"):
            found.append(uri)
        elif of_loopback := _LOOPBACK.fullmatch(issuer):
            others = [issuer.replace(of_loopback["host"], host, 1) for host in LOOPBACK_HOSTS]
            found += [each + uri for each in dict.fromkeys([issuer, *others])]
        else:
            found.append(issuer + uri)
    return found


def matching_redirect_uri(
    uri: str, registered: Sequence[str], *, issuer: str
) -> RedirectUri | None:
    """Return the request's redirect URI if it is one of those registered; else None."""
    known = uri in addresses(registered, issuer=issuer)
    # Of our own pages there is no other port: another program may listen there.
    if known or any(_same_but_for_port(uri, each) for each in registered):
        return RedirectUri(uri)
    return None


def _same_but_for_port(uri: str, registered: str) -> bool:
    given, known = _LOOPBACK.fullmatch(uri), _LOOPBACK.fullmatch(registered)
    return (
        given is not None
        and known is not None
        and int(given["port"] or 0) < 1 << 16
        and (given["start"], given["rest"]) == (known["start"], known["rest"])
    )
