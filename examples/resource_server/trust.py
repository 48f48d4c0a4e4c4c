"""Two ways to trust Scopegate's tokens: by its published keys, or by asking it.

Either tells who a token stands for and what it may do. They differ in what a request costs and in
how fast a revocation counts: see README.md beside this file.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import httpx
import jwt

REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "sub", "scope"]


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a token stands for, and the scopes that it lets them use here."""

    subject: str
    scopes: frozenset[str]


class Untrusted(Exception):
    """The token is malformed, forged, expired or revoked, or meant for somebody else."""


class Unreachable(Exception):
    """Scopegate can't be asked, so nobody can be let in."""


class Trust(Protocol):
    """A way to trust tokens of one issuer."""

    issuer: str

    async def bearer(self, token: str) -> Bearer:
        """Whom the token stands for. Raises Untrusted or Unreachable."""


class ByKeys:
    """Verifies tokens here (RFC 9068 §4), by keys that are fetched now and then.

    A request costs a signature check and asks nobody. A token counts until it expires, whatever is
    revoked meanwhile; a key that was retired counts for `max_age` seconds at most. `leeway` is how
    many seconds this machine's clock may differ from Scopegate's: fresh tokens would be refused.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        issuer: str,
        audience: str | None = None,
        max_age: float = 60.0,
        min_age: float = 5.0,
        leeway: float = 60.0,
    ) -> None:
        self._http = http
        self.issuer = issuer
        self._audience = audience or issuer
        self._max_age = max_age
        # Whoever makes up key ids must not have the keys fetched for each.
        self._min_age = min_age
        self._leeway = leeway
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = -max_age
        self._fetching = asyncio.Lock()

    async def bearer(self, token: str) -> Bearer:
        """Whom the token says that it stands for. Raises Untrusted or Unreachable."""
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            decoded = jwt.decode_complete(
                token,
                key,
                # The key says how it is used; the token is not asked.
                algorithms=[key.algorithm_name],
                issuer=self.issuer,
                audience=self._audience,
                leeway=self._leeway,
                options={"require": REQUIRED_CLAIMS},
            )
        except (jwt.PyJWTError, LookupError, TypeError) as error:
            raise Untrusted from error
        claims = decoded["payload"]
        if decoded["header"].get("typ") != "at+jwt" or not isinstance(claims["scope"], str):
            raise Untrusted
        return Bearer(claims["sub"], frozenset(claims["scope"].split()))

    async def _key(self, kid: str | None) -> jwt.PyJWK:
        async with self._fetching:
            age = time.monotonic() - self._fetched
            if age >= self._max_age or (kid not in self._keys and age >= self._min_age):
                await self._fetch()
        return self._keys[kid]

    async def _fetch(self) -> None:
        try:
            answer = await self._http.get(f"{self.issuer}/.well-known/jwks.json")
            published = jwt.PyJWKSet.from_dict(answer.raise_for_status().json())
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            raise Unreachable from error
        self._keys = {key.key_id: key for key in published.keys}
        self._fetched = time.monotonic()


class ByAsking:
    """Asks Scopegate (RFC 7662), and believes an answer for `ttl` seconds.

    A token costs one request to Scopegate in that time, and a revocation counts after it. The
    service account of these credentials needs the scope `introspect`.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        issuer: str,
        client_id: str,
        client_secret: str,
        audience: str | None = None,
        ttl: float = 1.0,
        size: int = 10_000,
    ) -> None:
        self._http = http
        self.issuer = issuer
        self._audience = audience or issuer
        self._credentials = httpx.BasicAuth(client_id, client_secret)
        self._ttl = ttl
        self._size = size
        self._answers: OrderedDict[bytes, tuple[float, Bearer | None]] = OrderedDict()

    async def bearer(self, token: str) -> Bearer:
        """Whom the token stood for, at most `ttl` seconds ago. Raises Untrusted or Unreachable."""
        # Not the token itself: what is remembered could be dumped, and tokens can be used.
        digest = hashlib.sha256(token.encode()).digest()
        until, bearer = self._answers.get(digest, (0.0, None))
        asked = time.monotonic()
        if asked >= until:
            bearer = await self._ask(token)
            self._answers[digest] = asked + self._ttl, bearer
            self._answers.move_to_end(digest)
            if len(self._answers) > self._size:
                self._answers.popitem(last=False)
        if bearer is None:
            raise Untrusted
        return bearer

    async def _ask(self, token: str) -> Bearer | None:
        try:
            answer = await self._http.post(
                f"{self.issuer}/introspect", data={"token": token}, auth=self._credentials
            )
            told = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unreachable from error
        # A refresh token is active too, but no pass.
        if not told["active"] or told["token_type"] != "bearer" or told["aud"] != self._audience:
            return None
        return Bearer(told["sub"], frozenset(told["scope"].split()))
