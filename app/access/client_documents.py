"""Client id metadata documents: an application's id is a URL, at which it says what it is.

draft-ietf-oauth-client-id-metadata-document. No administrator has registered it. So it is never
trusted, and the person is shown the host that it comes from.
"""

import asyncio
import json
import re
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from app.access.fetching import Fetched, NotFetched, fetch
from app.access.redirects import LOOPBACK_HOSTS, check_redirect_uris
from app.audit.limits import EntryLimit
from app.db.clock import monotonic
from app.errors import DomainError, Refused, Unavailable
from app.identity.networks import network_of
from app.settings import Settings

KEPT_FOR_LEAST, KEPT_FOR_MOST = 5 * 60, 24 * 60 * 60
"""Seconds for which a document is used before it is fetched again."""
MOST_KEPT = 1000
MOST_AT_ONCE, MOST_OF_A_HOST = 20, 3
"""Documents that are being fetched, and those of them of one host."""
MOST_CHARACTERS = 1000
"""Of a URL that is a client id."""
LONGEST_NAME = 100
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=\"?(\d{1,9})")
_URL = re.compile(r"https?://[a-z0-9.\-\[\]:]+/[A-Za-z0-9\-._~!$&'()+,;=:@/?%]*")


class ClientDocumentRefused(DomainError):
    """The application's description of itself can't be used. Nothing is sent to it."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The application that sent you here describes itself in a document. {why} Nothing "
            "was sent to the application."
        )


@dataclass(frozen=True, slots=True)
class ClientDocument:
    """What a client says of itself."""

    client_id: str
    """The document's URL."""
    name: str
    """With the host that the document comes from: everyone may write any name."""
    redirect_uris: tuple[str, ...]


def is_document_url(client_id: str) -> bool:
    """Return whether an id could be a document's URL: no registered client has such an id."""
    return client_id.startswith(("https:", "http:"))


class TooManyLookups(Unavailable):
    """Strangers can make this service fetch documents: there is a bound."""

    text = "Too many applications are being looked up just now: try again in a minute."


class ClientDocuments:
    """The documents that were fetched, as long as they may be used. Errors are not kept."""

    def __init__(self, hosts: Collection[str] = (), *, issuer: str = "") -> None:
        self._hosts = frozenset(hosts)
        """With any: only documents of these are fetched, on whatever network they are."""
        self._own = urlsplit(issuer).netloc
        # Made once: it takes as long as many requests.
        self._tls = ssl.create_default_context()
        self._by_network = EntryLimit()
        self._kept: dict[str, tuple[ClientDocument, float]] = {}
        self._fetching: dict[str, asyncio.Task[ClientDocument]] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the documents that these settings allow; None for none."""
        if not settings.client_id_metadata:
            return None
        return cls(settings.client_id_metadata_hosts, issuer=settings.token_issuer)

    async def get(self, client_id: str, *, address: str | None, now: datetime) -> ClientDocument:
        """Return the document with this URL, for a browser at this address.

        Raises ClientDocumentRefused, or Unavailable when too many are asked for.
        """
        found = self._kept.get(client_id)
        if found is not None and monotonic() < found[1]:
            return found[0]
        url = self._check_url(client_id)
        fetching = self._fetching.get(client_id)
        if fetching is None:
            of_host = [each for each in self._fetching if urlsplit(each).netloc == url.netloc]
            if len(self._fetching) >= MOST_AT_ONCE or len(of_host) >= MOST_OF_A_HOST:
                raise TooManyLookups
            # As of audit entries: so many of one network in a minute.
            if self._by_network.admit(network_of(address), now=now) is None:
                raise TooManyLookups
            fetching = asyncio.create_task(self._fetch(client_id, url), name=client_id)
            self._fetching[client_id] = fetching
            fetching.add_done_callback(self._fetched)
        # Others may wait for it too: who goes away does not end it.
        return await asyncio.shield(fetching)

    def _fetched(self, fetching: asyncio.Task[ClientDocument]) -> None:
        del self._fetching[fetching.get_name()]
        if not fetching.cancelled():
            # Taken note of: those who waited may all have gone away.
            fetching.exception()

    def _check_url(self, client_id: str) -> SplitResult:
        """Return the URL's parts if its document may be fetched. Raises ClientDocumentRefused."""
        wrong = ClientDocumentRefused("Its address is none that this service fetches.")
        if len(client_id) > MOST_CHARACTERS or not _URL.fullmatch(client_id):
            raise wrong
        try:
            url = urlsplit(client_id)
            named = {url.hostname, url.netloc} & self._hosts
            has_port = url.port != 0
        except ValueError:
            raise wrong from None
        plain = url.scheme == "http"
        if (self._hosts and not named) or (plain and not (named and _is_loopback(url))):
            raise wrong
        if not url.hostname or not has_port or not {".", ".."}.isdisjoint(url.path.split("/")):
            raise wrong
        if url.path == "/" or url.netloc == self._own:
            raise wrong
        return url

    async def _fetch(self, client_id: str, url: SplitResult) -> ClientDocument:
        try:
            fetched = await fetch(url, self._tls, privately=bool(self._hosts))
        except NotFetched as error:
            raise ClientDocumentRefused(str(error)) from None
        document = parse_document(client_id, fetched)
        if len(self._kept) >= MOST_KEPT:
            # The one that was fetched first.
            del self._kept[next(iter(self._kept))]
        self._kept.pop(client_id, None)
        self._kept[client_id] = document, monotonic() + _lifetime(fetched)
        return document


def _is_loopback(url: SplitResult) -> bool:
    host = url.netloc.rpartition(":")[0] if url.port else url.netloc
    return host in LOOPBACK_HOSTS


def _lifetime(fetched: Fetched) -> int:
    said = fetched.headers.get("cache-control", "").lower()
    found = None if "no-store" in said else _MAX_AGE.search(said)
    return min(max(int(found[1]) if found else 0, KEPT_FOR_LEAST), KEPT_FOR_MOST)


def parse_document(client_id: str, fetched: Fetched) -> ClientDocument:
    """Return what the document at this URL says. Raises ClientDocumentRefused."""
    kind = fetched.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise ClientDocumentRefused("It is no JSON.")
    try:
        said = json.loads(fetched.body)
    except (ValueError, RecursionError):
        raise ClientDocumentRefused("It is no JSON.") from None
    if not isinstance(said, dict) or said.get("client_id") != client_id:
        raise ClientDocumentRefused("Its client_id is not the address that it is at.")
    # A secret in a public document is none. Assertions by a key are not supported.
    if said.get("token_endpoint_auth_method", "none") != "none" or "client_secret" in said:
        raise ClientDocumentRefused("It asks for a way to authenticate other than none.")
    grants = said.get("grant_types", ["authorization_code"])
    if not isinstance(grants, list) or "authorization_code" not in grants:
        raise ClientDocumentRefused("It leaves out the authorization code grant.")
    return ClientDocument(client_id, _name(said, client_id), _redirect_uris(said))


def _redirect_uris(said: dict[str, Any]) -> tuple[str, ...]:
    uris = said.get("redirect_uris")
    if not isinstance(uris, list) or not uris or not all(isinstance(each, str) for each in uris):
        raise ClientDocumentRefused("It names no redirect URIs.")
    try:
        return tuple(check_redirect_uris(uris))
    except Refused as error:
        raise ClientDocumentRefused(str(error)) from None


def _name(said: dict[str, Any], client_id: str) -> str:
    name, host = said.get("client_name"), urlsplit(client_id).hostname or client_id
    shown = name.strip() if isinstance(name, str) else ""
    if not shown or not shown.isprintable() or len(shown) > LONGEST_NAME:
        return host
    return f"{shown} ({host})"
